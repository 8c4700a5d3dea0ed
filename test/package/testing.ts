import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTask, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { inProcessEngine } from 'nestjs-background-tasks/testing';

@Injectable()
class MailTasks {
  @BackgroundTask('mail', { attempts: 3 })
  async mail(_to: string): Promise<void> {}
}

const engine = inProcessEngine();

// An application runs a task of an engine without any server.
@Module({ imports: [BackgroundTasksModule.forRoot({ engine })], providers: [MailTasks] })
class AppModule {}

export const finished = NestFactory.createApplicationContext(AppModule, { logger: ['error'] }).then(async (app) => {
  await app.get(BackgroundTasksRunner).within((tasks) => tasks.addTask(MailTasks.prototype.mail, 'a@example.com'));
  await engine.onIdle();
  const [task] = engine.tasks;
  if (task?.state !== 'completed') throw new Error('The task did not run');
  await app.close();
});
