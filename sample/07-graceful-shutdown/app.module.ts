import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { DatabaseModule } from './database.module.js';
import { NewsController } from './news.controller.js';
import { OrdersController } from './orders.controller.js';
import { Payments } from './payments.js';

@Module({
  // Less than the time between SIGTERM and SIGKILL: Kubernetes leaves 30 seconds, and the server needs some of them to close.
  imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 25_000 }), DatabaseModule],
  controllers: [NewsController, OrdersController],
  providers: [Payments],
})
export class AppModule {}
