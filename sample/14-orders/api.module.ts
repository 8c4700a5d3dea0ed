import { Module } from '@nestjs/common';
import { EventEmitterModule } from '@nestjs/event-emitter';
import { JwtModule } from '@nestjs/jwt';
import { PassportModule } from '@nestjs/passport';
import { ScheduleModule } from '@nestjs/schedule';
import { backend } from './backend.js';
import { ClosingJob } from './closing.job.js';
import { JwtStrategy } from './jwt.strategy.js';
import { MailTasks } from './mail.tasks.js';
import { OrdersController } from './orders.controller.js';
import { OrdersListener } from './orders.listener.js';
import { OrdersService } from './orders.service.js';
import { engine, jwtSecret } from './settings.js';
import { UsersService } from './users.service.js';

@Module({
  imports: [
    ...backend(engine(false), 'api'),
    EventEmitterModule.forRoot(),
    ScheduleModule.forRoot(),
    PassportModule,
    JwtModule.register({ secret: jwtSecret }),
  ],
  controllers: [OrdersController],
  providers: [OrdersService, OrdersListener, ClosingJob, UsersService, JwtStrategy, MailTasks],
})
export class ApiModule {}
