import 'reflect-metadata';
import { setTimeout as pause } from 'node:timers/promises';
import { Controller, Injectable, Module, Param, Post } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { afterEach, expect, test, vi } from 'vitest';

// The test of a consumer who uses vitest. It compiles TypeScript itself, with the metadata that Nest injects by.

const sent: string[] = [];

@Injectable()
class AuditLog {
  constructor(private readonly tasks: BackgroundTasks) {}

  add(what: string): void {
    this.tasks.addTask((entry: string) => void sent.push(entry), what);
  }
}

@Controller()
class NotificationController {
  constructor(private readonly audit: AuditLog) {}

  @Post('send-notification/:email')
  send(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    this.audit.add(`audit ${email}`);
    tasks.addTask((to: string) => void sent.push(`mail ${to}`), email);
    return { message: 'Message sent' };
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [NotificationController], providers: [AuditLog] })
class AppModule {}

afterEach(() => {
  sent.length = 0;
  vi.useRealTimers();
});

test('onIdle() waits for the tasks of a request', async () => {
  const testingModule = await Test.createTestingModule({ imports: [AppModule] }).compile();
  const app = testingModule.createNestApplication();
  await app.listen(0, '127.0.0.1');
  const response = await fetch(`${await app.getUrl()}/send-notification/foo@example.com`, { method: 'POST' });
  expect(response.status).toBe(201);
  await app.get(BackgroundTasksRunner).onIdle();
  expect(sent).toEqual(['audit foo@example.com', 'mail foo@example.com']);
  await app.close();
});

test('a list in the place of the provider records, also under fake timers', async () => {
  const tasks = new BackgroundTasks();
  const testingModule = await Test.createTestingModule({ imports: [AppModule] })
    .overrideProvider(BackgroundTasks)
    .useValue(tasks)
    .compile();
  const app = testingModule.createNestApplication();
  await app.listen(0, '127.0.0.1');
  vi.useFakeTimers();
  await fetch(`${await app.getUrl()}/send-notification/foo@example.com`, { method: 'POST' });
  expect(tasks.tasks.map(({ args }) => args)).toEqual([['audit foo@example.com'], ['foo@example.com']]);
  expect(sent).toEqual([]);
  await tasks.run();
  expect(sent).toEqual(['audit foo@example.com', 'mail foo@example.com']);
  await app.close();
});

test('fake timers let a waiting task end at once', async () => {
  vi.useFakeTimers();
  const tasks = new BackgroundTasks();
  tasks.addTask(async () => {
    await new Promise((resolve) => setTimeout(resolve, 86_400_000));
    sent.push('reminder');
  });
  const ran = tasks.run();
  await vi.advanceTimersByTimeAsync(86_400_000);
  await ran;
  expect(sent).toEqual(['reminder']);
});

test('fake timers leave a pause of node:timers/promises alone, which is a real one', async () => {
  vi.useFakeTimers();
  const tasks = new BackgroundTasks();
  const enough = new AbortController();
  tasks.addTask(async () => {
    await pause(3_600_000, undefined, { signal: enough.signal }).catch(() => undefined);
    sent.push('reminder');
  });
  const ran = tasks.run();
  await vi.advanceTimersByTimeAsync(86_400_000);
  expect(sent).toEqual([]);
  enough.abort();
  await ran;
  expect(sent).toEqual(['reminder']);
});
