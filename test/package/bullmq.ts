import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTask, BackgroundTasksModule } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';

@Injectable()
class MailTasks {
  @BackgroundTask('mail', { attempts: 3 })
  async mail(_to: string): Promise<void> {}
}

// An application boots, and closes, without the server of its queue.
@Module({
  imports: [BackgroundTasksModule.forRoot({ engine: bullmqEngine({ connection: 'redis://127.0.0.1:1', worker: { concurrency: 2 } }) })],
  providers: [MailTasks],
})
class AppModule {}

export const finished = NestFactory.createApplicationContext(AppModule, { logger: ['error'] }).then((app) => app.close());
