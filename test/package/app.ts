import assert from 'node:assert/strict';
import { Controller, Injectable, Module, Param, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';

// The application of a consumer. Compiled as an ES module and as CommonJS, so it does without what only one of them has.

const events: string[] = [];
let letTasksEnd!: () => void;
const answered = new Promise<void>((resolve) => (letTasksEnd = resolve));

async function record(event: string): Promise<void> {
  // A response that waited for its tasks would never come.
  await answered;
  events.push(event);
}

@Injectable()
class AuditLog {
  constructor(private readonly tasks: BackgroundTasks) {}

  add(what: string): void {
    this.tasks.addTask(record, what);
  }
}

@Controller()
class NotificationController {
  constructor(private readonly audit: AuditLog) {}

  @Post('send-notification/:email')
  send(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    this.audit.add('task of the service');
    tasks.addTask(record, `task of the handler for ${email}`);
    return { message: 'Message sent' };
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [NotificationController], providers: [AuditLog] })
class AppModule {}

async function main(): Promise<void> {
  const app = await NestFactory.create(AppModule, { logger: ['warn', 'error'] });
  try {
    app.enableShutdownHooks();
    await app.listen(0, '127.0.0.1');
    const response = await fetch(`${await app.getUrl()}/send-notification/foo@example.com`, { method: 'POST' });
    assert.equal(response.status, 201);
    assert.equal(await response.text(), '{"message":"Message sent"}');
    events.push('response');
    letTasksEnd();
    await app.get(BackgroundTasksRunner).onIdle();
    assert.deepEqual(events, ['response', 'task of the service', 'task of the handler for foo@example.com']);
  } finally {
    letTasksEnd();
    await app.close();
  }
}

export const finished = main();
