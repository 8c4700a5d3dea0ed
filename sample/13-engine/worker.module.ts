import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { engine } from './engine.js';
import { MailTasks } from './mail.tasks.js';

@Module({
  imports: [BackgroundTasksModule.forRoot({ engine: engine({ concurrency: 20 }), shutdownTimeout: 10_000 })],
  providers: [MailTasks],
})
export class WorkerModule {}
