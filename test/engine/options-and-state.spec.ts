import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { Queue } from 'bullmq';
import { BackgroundTask, BackgroundTasksModule, BackgroundTasksRunner, type TaskState, currentTask } from 'nestjs-background-tasks';
import { cancelQueued } from '../../sample/13-engine/cancel.js';
import { RecordedLogs } from '../support/app.js';
import { backends, engineOn, queueOn } from '../support/backends.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';

// Options of one call override the method's; any process tells the state of a task (guarantee 10).

let ran: Recorder<string>;
let held: Gate;

beforeEach(() => {
  ran = new Recorder();
  held = gate();
});

@Injectable()
class ReportTasks {
  @BackgroundTask('plain')
  plain(): void {
    ran.add('plain');
  }

  @BackgroundTask('patient', { attempts: 5, delay: 60_000, priority: 3 })
  patient(): void {}

  @BackgroundTask('sum-up')
  sum(_count: number): void {}

  @BackgroundTask('sum-up:total')
  sumTotal(_count: number): void {}

  @BackgroundTask('import')
  async import(lines: number): Promise<void> {
    const task = currentTask()!;
    const progress = { done: 0, of: lines };
    for (progress.done = 1; progress.done < lines; progress.done++) void task.updateProgress(progress);
    await task.updateProgress(progress);
    ran.add('written');
    await held.opened;
    throw new Error('line 3 has no address');
  }

  @BackgroundTask('no-json')
  noJson(): void {
    void currentTask()!.updateProgress(1n as never);
  }
}

describe('options of one call', () => {
  it('are refused for a function that is no @BackgroundTask() method', () => {
    expect(() => new BackgroundTask({ delay: 1_000 }, () => undefined)).toThrow(
      expect.objectContaining({
        code: 'BACKGROUND_TASK_INVALID_TASK',
        message: 'Expected a task with the option `delay` to be a @BackgroundTask() method, got a function',
      }),
    );
    expect(() => new BackgroundTask({ attempts: 0 }, ReportTasks.prototype.plain)).toThrow(
      'Expected the option `attempts` of addTask() to be a positive integer, got `0` (number)',
    );
  });

  it('are refused without an engine', async () => {
    @Module({ imports: [BackgroundTasksModule], providers: [PlainTasks] })
    class AppModule {}

    const app = await NestFactory.createApplicationContext(AppModule, { logger: false });
    const add = (): Promise<unknown> =>
      app.get(BackgroundTasksRunner).within((tasks) => tasks.addTask({ delay: 1_000 }, PlainTasks.prototype.plain));
    await expect(add()).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_INVALID_OPTION',
      message: expect.stringContaining('The option `delay` of addTask() for the task "alone" needs an engine'),
    });
    await app.close();
  });

  @Injectable()
  class PlainTasks {
    @BackgroundTask('alone')
    plain(): void {}
  }
});

describe('the state of a task in process', () => {
  @Module({ imports: [BackgroundTasksModule] })
  class AppModule {}

  it('goes from waiting to how the task ended, with its progress and its failure', async () => {
    const app = await NestFactory.createApplicationContext(AppModule, { logger: false });
    const runner = app.get(BackgroundTasksRunner);
    const task = await runner.within((tasks) => {
      const added = tasks.addTask({ name: 'sum' }, async () => {
        await added.updateProgress({ done: 1 });
        ran.add('started');
        await held.opened;
        throw new Error('out of numbers');
      });
      ran.add(added.id);
      return added;
    });
    const { id } = task;
    expect(await runner.state(id)).toEqual({ id, name: 'sum', state: 'waiting', attempt: 1 });
    await ran.containing('started');
    expect(await runner.state(id)).toEqual({ id, name: 'sum', state: 'running', attempt: 1, progress: { done: 1 } });
    held.open();
    await runner.onIdle();
    expect(await runner.state(id)).toEqual({
      id,
      name: 'sum',
      state: 'failed',
      attempt: 1,
      progress: { done: 1 },
      failure: 'out of numbers',
    });
    await app.close();
  });

  it('is kept of the last thousand tasks', async () => {
    const app = await NestFactory.createApplicationContext(AppModule, { logger: false });
    const runner = app.get(BackgroundTasksRunner);
    const ids = await runner.within((tasks) => Array.from({ length: 1_001 }, () => tasks.addTask(() => undefined).id));
    await runner.onIdle();
    expect(await runner.state(ids[0]!)).toBeUndefined();
    expect(await runner.state(ids[1]!)).toMatchObject({ state: 'completed' });
    const cancelled = await runner.within((tasks) => {
      const task = tasks.addTask(() => undefined);
      ran.add(task.id);
      task.cancel();
      return task.id;
    });
    expect(await runner.state(cancelled)).toMatchObject({ state: 'cancelled' });
    expect(await runner.state(randomUUID())).toBeUndefined();
    await app.close();
  });
});

describe.each(backends)('BullMQ on $name', (backend) => {
  let server: Pick<Server, 'url' | 'remove'>;
  let queue: Queue;

  beforeAll(async () => {
    server = await backend.start();
  }, 30_000);

  afterAll(() => server.remove());

  beforeEach(() => {
    queue = queueOn(backend, server.url, `test-${randomUUID()}`);
  });

  afterEach(() => queue.close());

  async function start(worker: false | object) {
    @Module({
      imports: [BackgroundTasksModule.forRoot({ engine: engineOn(backend, server.url, { queue: queue.name, worker }) })],
      providers: [ReportTasks],
    })
    class AppModule {}

    const logs = new RecordedLogs();
    const app = await NestFactory.createApplicationContext(AppModule, { logger: logs });
    return { app, logs, runner: app.get(BackgroundTasksRunner), tasks: app.get(ReportTasks) };
  }

  it('has the options of the call, and those of the method for the rest', async () => {
    const { app, runner, tasks: reports } = await start(false);
    const ids = await runner.within((tasks) => {
      tasks.addTask({ delay: 0, attempts: 2, backoff: 5 }, reports.patient);
      tasks.addTask({ deduplication: { id: 'one' } }, reports.plain);
      tasks.addTask({ deduplication: { id: 'one' } }, reports.plain);
      return tasks.tasks.map(({ id }) => id);
    });
    expect(await cancelQueued(queue, randomUUID())).toBe(false);
    const [patient, plain, again] = await Promise.all(ids.map((id) => queue.getJob(id)));
    expect(patient!.opts).toMatchObject({ delay: 0, attempts: 2, priority: 3 });
    expect(plain!.opts).toMatchObject({ deduplication: { id: 'plain:one' } });
    expect(again).toBeUndefined();
    expect([await cancelQueued(queue, ids[1]!), await runner.state(ids[1]!)]).toEqual([true, undefined]);
    await expect(runner.within((tasks) => tasks.addTask({ priority: 2 ** 21 }, reports.plain))).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_INVALID_OPTION',
      message: expect.stringContaining('the option `priority` of background task "plain"'),
    });
    await app.close();
  });

  it('tells keys of several methods apart, and refuses one that a server may not store', async () => {
    const { app, runner, tasks: reports } = await start(false);
    const [first, second] = await runner.within((tasks) => [
      tasks.addTask({ deduplication: { id: 'total:1' } }, reports.sum, 1),
      tasks.addTask({ deduplication: { id: '1' } }, reports.sumTotal, 1),
    ]);
    expect(await Promise.all([first, second].map(({ id }) => runner.state(id)))).toMatchObject([
      { state: 'waiting' },
      { state: 'waiting' },
    ]);
    for (const key of ['a\0b', 'a\ud83d']) {
      await expect(runner.within((tasks) => tasks.addTask({ deduplication: { id: () => key } }, reports.plain))).rejects.toMatchObject({
        code: 'BACKGROUND_TASK_INVALID_TASK',
        message: expect.not.stringContaining(key),
      });
    }
    await app.close();
  });

  it.each(['delayed', 'id', 'events', 'a\0b', ''])('knows no task with the id %j, which a client may send', async (id) => {
    const { app, runner, tasks: reports } = await start(false);
    await runner.within((tasks) => void tasks.addTask(reports.patient));
    await expect(runner.state(id)).resolves.toBeUndefined();
    await app.close();
  });

  it('tells the state of a task of a worker from a process that runs none', async () => {
    const api = await start(false);
    const id = await api.runner.within((tasks) => tasks.addTask({ attempts: 1 }, api.tasks.import, 3).id);
    expect(await api.runner.state(id)).toEqual({ id, name: 'import', state: 'waiting', attempt: 1 });
    const worker = await start({});
    await ran.containing('written');
    const progress = { done: 3, of: 3 };
    expect(await api.runner.state(id)).toEqual({ id, name: 'import', state: 'running', attempt: 1, progress });
    held.open();
    const state = await until(api.runner, id, 'failed');
    expect(state).toEqual({ id, name: 'import', state: 'failed', attempt: 1, progress, failure: 'line 3 has no address' });
    expect(worker.logs.of('error')).toEqual([`Background task "import" failed (job ${id}): line 3 has no address`]);
    // Somebody has it run again.
    await (await queue.getJob(id))!.retry();
    await ran.atLeast(2);
    await until(api.runner, id, 'failed');
    expect(worker.logs.of('error')[1]).toBe(
      `Background task "import" failed (attempt 2, 1 more than its option \`attempts\` allows, job ${id}): line 3 has no address`,
    );
    expect(await api.runner.state(randomUUID())).toBeUndefined();
    await worker.app.close();
    await api.app.close();
  });

  it('fails a task at once that says something of its progress that JSON cannot hold', async () => {
    const { app, runner, tasks: reports } = await start({});
    const id = await runner.within((tasks) => tasks.addTask(reports.noJson).id);
    expect(await until(runner, id, 'failed')).toMatchObject({
      failure: 'Background task "no-json" set its progress to a value that JSON cannot represent; pass plain data',
    });
    await app.close();
  });
});

/** Asks until the task is in a state: a worker writes it down after the task has ended. */
async function until(runner: BackgroundTasksRunner, id: string, state: TaskState['state']): Promise<TaskState> {
  for (;;) {
    const found = await runner.state(id);
    if (found?.state === state) return found;
  }
}
