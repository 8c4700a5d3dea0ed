import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { MailTasks } from './mail.tasks.js';
import { UsersController } from './users.controller.js';

@Module({
  imports: [BackgroundTasksModule.forRoot({ engine: bullmqEngine({ connection: process.env.REDIS_URL ?? 'redis://localhost:6379' }) })],
  controllers: [UsersController],
  providers: [MailTasks],
})
export class AppModule {}
