import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { engine } from './engine.js';
import { MailTasks } from './mail.tasks.js';
import { UsersController } from './users.controller.js';

@Module({
  imports: [BackgroundTasksModule.forRoot({ engine: engine(false) })],
  controllers: [UsersController],
  providers: [MailTasks],
})
export class ApiModule {}
