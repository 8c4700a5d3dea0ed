import { Module, Scope } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { AuditInterceptor } from './audit.interceptor.js';
import { OrdersController } from './orders.controller.js';
import { OrdersListener } from './orders.listener.js';
import { Audit, Mail } from './work.js';

/** The common part of both applications. It does not import BackgroundTasksModule: each root module does. */
@Module({
  controllers: [OrdersController],
  providers: [Mail, Audit, OrdersListener, { provide: APP_INTERCEPTOR, useClass: AuditInterceptor }],
})
export class OrdersModule {}

@Module({ imports: [EventEmitterModule.forRoot(), BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT }), OrdersModule] })
export class AppModule {}

@Module({ imports: [EventEmitterModule.forRoot(), BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT, concurrency: 5 }), OrdersModule] })
export class AdminModule {}
