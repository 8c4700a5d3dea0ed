import { Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { engine } from './engine.js';
import { HealthController } from './health.controller.js';
import { MailTasks } from './mail.tasks.js';
import { UsersController } from './users.controller.js';

@Module({
  imports: [BackgroundTasksModule.forRoot({ engine: engine(false) }), TerminusModule],
  controllers: [UsersController, HealthController],
  providers: [MailTasks],
})
export class ApiModule {}
