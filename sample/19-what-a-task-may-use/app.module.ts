import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { Journal } from './journal.js';
import { OrdersController } from './orders.controller.js';
import { SessionController } from './session.controller.js';
import { Subscribers } from './subscribers.js';
import { SubscribersController } from './subscribers.controller.js';
import { VisitsController } from './visits.controller.js';
import { WebhooksController } from './webhooks.controller.js';

@Module({
  imports: [BackgroundTasksModule],
  controllers: [OrdersController, SessionController, SubscribersController, VisitsController, WebhooksController],
  providers: [Journal, Subscribers],
})
export class AppModule {}
