import { AsyncLocalStorage } from 'node:async_hooks';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { type INestApplicationContext, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTask, type BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner, currentTask } from 'nestjs-background-tasks';
import { type InProcessEngine, type InProcessEngineOptions, inProcessEngine } from 'nestjs-background-tasks/testing';
import { type Gate, gate } from '../support/gate.js';
import { turns } from '../support/turns.js';

// `inProcessEngine()`: a test sees what was handed over, and owns the time of attempts and delays.

let ran: string[];
let held: Gate;
let engine: InProcessEngine;
let app: INestApplicationContext;
const request = new AsyncLocalStorage<string>();

@Injectable()
class MailTasks {
  @BackgroundTask('mail')
  mail(to: string): void {
    ran.push(`mail to ${to}${request.getStore() ?? ''}`);
  }

  @BackgroundTask('flaky', { attempts: 3, backoff: { type: 'exponential', delay: 1_000 } })
  flaky(): void {
    const { attempt } = currentTask()!;
    ran.push(`attempt ${attempt}`);
    if (attempt < 3) throw new Error(`attempt ${attempt} failed`);
  }

  @BackgroundTask('final', { attempts: 3 })
  final(): void {
    ran.push('final');
    throw Object.assign(new Error('no such address'), { name: 'UnrecoverableError' });
  }

  @BackgroundTask('held')
  async held(): Promise<void> {
    const { signal } = currentTask()!;
    await currentTask()!.updateProgress(50);
    ran.push('held');
    await Promise.race([held.opened, new Promise((resolve) => signal.addEventListener('abort', resolve))]);
    signal.throwIfAborted();
  }
}

async function start(options?: InProcessEngineOptions, shutdownTimeout = 1_000): Promise<void> {
  engine = inProcessEngine(options);
  app = await startAnother(shutdownTimeout);
}

/** An application with the engine of the first one. */
async function startAnother(shutdownTimeout = 1_000): Promise<INestApplicationContext> {
  @Module({ imports: [BackgroundTasksModule.forRoot({ engine, shutdownTimeout })], providers: [MailTasks] })
  class AppModule {}

  return NestFactory.createApplicationContext(AppModule, { logger: false });
}

/** The tasks that a request would add. */
function add(func: (tasks: BackgroundTasks, mail: MailTasks) => unknown): Promise<unknown> {
  return app.get(BackgroundTasksRunner).within((tasks) => void func(tasks, app.get(MailTasks)));
}

beforeEach(() => {
  ran = [];
  held = gate();
});

afterEach(async () => {
  held.open();
  await app.close();
  jest.useRealTimers();
});

describe('inProcessEngine()', () => {
  it('runs what is handed over, outside the context of the request, and keeps it for assertions', async () => {
    await start();
    await request.run(' with a context', () => add((tasks, mail) => tasks.addTask({ attempts: 2 }, mail.mail, 'a@example.com')));
    await engine.onIdle();
    expect(ran).toEqual(['mail to a@example.com']);
    expect(engine.tasks).toMatchObject([{ name: 'mail', args: ['a@example.com'], options: { attempts: 2 }, state: 'completed' }]);
  });

  it('runs none with `worker: false`', async () => {
    await start({ worker: false });
    await add((tasks, mail) => tasks.addTask(mail.mail, 'a@example.com'));
    await engine.onIdle();
    expect(ran).toEqual([]);
    expect(engine.tasks).toMatchObject([{ name: 'mail', args: ['a@example.com'], state: 'waiting' }]);
  });

  it('tries again after the backoff, on fake timers', async () => {
    await start();
    jest.useFakeTimers();
    await add((tasks, mail) => tasks.addTask(mail.flaky));
    await engine.onIdle();
    expect(engine.tasks).toMatchObject([{ state: 'waiting', attempt: 2, failure: 'attempt 1 failed' }]);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(ran).toEqual(['attempt 1', 'attempt 2']);
    await jest.advanceTimersByTimeAsync(1_999);
    expect(ran).toHaveLength(2);
    await jest.advanceTimersByTimeAsync(1);
    expect(engine.tasks).toMatchObject([{ state: 'completed', attempt: 3 }]);
    expect(engine.tasks[0]).not.toHaveProperty('failure');
  });

  it('tries no more after an UnrecoverableError', async () => {
    await start();
    await add((tasks, mail) => tasks.addTask(mail.final));
    await engine.onIdle();
    expect(ran).toEqual(['final']);
    expect(engine.tasks).toMatchObject([{ state: 'failed', attempt: 1, failure: 'no such address' }]);
  });

  it('waits for the delay, on fake timers', async () => {
    await start();
    jest.useFakeTimers();
    await add((tasks, mail) => tasks.addTask({ delay: 86_400_000 }, mail.mail, 'later@example.com'));
    await jest.advanceTimersByTimeAsync(86_399_999);
    expect(ran).toEqual([]);
    await jest.advanceTimersByTimeAsync(1);
    expect(ran).toEqual(['mail to later@example.com']);
  });

  it('runs tasks by priority, those without one first', async () => {
    await start({ worker: 1 });
    await add((tasks, mail) => {
      tasks.addTask({ priority: 5 }, mail.mail, 'c');
      tasks.addTask({ priority: 2 }, mail.mail, 'b');
      tasks.addTask({ priority: 5 }, mail.mail, 'd');
      tasks.addTask(mail.mail, 'a');
    });
    await engine.onIdle();
    expect(ran).toEqual(['mail to a', 'mail to b', 'mail to c', 'mail to d']);
  });

  it('ignores a task whose key is taken, until the task has ended or the ttl is over', async () => {
    await start();
    jest.useFakeTimers();
    const once = (deduplication: object, to: string) =>
      add((tasks, mail) => tasks.addTask({ deduplication: { id: 'key', ...deduplication } }, mail.mail, to));
    await once({}, 'a');
    await engine.onIdle();
    await once({ ttl: 1_000 }, 'b');
    await once({ ttl: 1_000 }, 'c');
    await jest.advanceTimersByTimeAsync(1_000);
    await once({}, 'd');
    await engine.onIdle();
    expect(ran).toEqual(['mail to a', 'mail to b', 'mail to d']);

    const debounced = (to: string) =>
      add((tasks, mail) =>
        tasks.addTask({ delay: 500, deduplication: { id: 'typing', ttl: 500, extend: true, replace: true } }, mail.mail, to),
      );
    await debounced('e');
    await jest.advanceTimersByTimeAsync(400);
    await debounced('f');
    await jest.advanceTimersByTimeAsync(500);
    expect(ran.slice(3)).toEqual(['mail to f']);
  });

  it('tells the state of a task, and requeues what runs when a shutdown is out of time', async () => {
    await start({}, 10);
    let id = '';
    await add((tasks, mail) => (id = tasks.addTask(mail.held).id));
    const runner = app.get(BackgroundTasksRunner);
    expect(await runner.state(id)).toEqual({ id, name: 'held', state: 'running', attempt: 1, progress: 50 });
    await app.close();
    expect(await engine.find(id)).toMatchObject({ state: 'waiting', attempt: 1 });
  });

  it('keeps its tasks for the next application, also those with a delay', async () => {
    await start();
    jest.useFakeTimers();
    await add((tasks, mail) => tasks.addTask({ delay: 1_000 }, mail.mail, 'later@example.com'));
    await app.close();
    app = await startAnother();
    await jest.advanceTimersByTimeAsync(1_000);
    expect(ran).toEqual(['mail to later@example.com']);
  });

  it('waits at the shutdown of an application for the tasks that run in it, also if another one is open', async () => {
    await start();
    const other = await startAnother();
    await add((tasks, mail) => tasks.addTask(mail.held));
    const events: string[] = [];
    const closed = app.close().then(() => events.push('closed'));
    await turns();
    events.push('released');
    held.open();
    await closed;
    expect(events).toEqual(['released', 'closed']);
    await other.close();
  });

  it('hands what a shutdown requeues to another application', async () => {
    await start({}, 10);
    const other = await startAnother();
    await add((tasks, mail) => tasks.addTask(mail.held));
    await app.close();
    held.open();
    await engine.onIdle();
    expect(ran).toEqual(['held', 'held']);
    expect(engine.tasks).toMatchObject([{ state: 'completed', attempt: 1 }]);
    await other.close();
  });

  it('gives a task to an application that has its method', async () => {
    engine = inProcessEngine();
    @Module({ imports: [BackgroundTasksModule.forRoot({ engine })] })
    class WithoutTasksModule {}
    const other = await NestFactory.createApplicationContext(WithoutTasksModule, { logger: false });
    app = await startAnother();
    await add((tasks, mail) => tasks.addTask(mail.mail, 'a@example.com'));
    await engine.onIdle();
    expect(ran).toEqual(['mail to a@example.com']);
    await other.close();
  });

  it('refuses options that it does not have', async () => {
    await start();
    expect(() => inProcessEngine({ worker: 0 })).toThrow(
      'Expected the option `worker` of inProcessEngine() to be false or a positive integer',
    );
  });
});
