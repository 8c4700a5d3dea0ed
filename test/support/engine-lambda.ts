import { setTimeout } from 'node:timers/promises';
import { configure } from '@codegenie/serverless-express';
import { Controller, Injectable, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTask, BackgroundTasks, type BackgroundTasksEngine, BackgroundTasksModule } from 'nestjs-background-tasks';

// A function whose tasks go to a queue, and are run elsewhere. It returns its answer, and nothing more.

const engine: BackgroundTasksEngine = {
  async enqueue(entries) {
    await setTimeout(50);
    for (const { name } of entries) console.log(`queued ${name}`);
  },
  // As `worker: false` has it.
  work: () => undefined,
  close: async () => undefined,
};

@Injectable()
class Mail {
  @BackgroundTask('welcome')
  welcome(): void {}
}

@Controller('sign-ups')
class SignUpsController {
  constructor(private readonly mail: Mail) {}

  @Post()
  signUp(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.mail.welcome);
  }
}

@Module({ imports: [BackgroundTasksModule.forRoot({ engine })], controllers: [SignUpsController], providers: [Mail] })
class AppModule {}

const app = await NestFactory.create(AppModule, { logger: false });
await app.init();
const answerOf = configure({ app: app.getHttpAdapter().getInstance() });

export const handler = (event: unknown, context: never): unknown => answerOf(event, context, () => {});
