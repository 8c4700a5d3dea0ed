// Guarantee 10: a worker that loses its server, or whose run of a task ends oddly, loses no task; what has not been tried has not failed.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Inject, Injectable, Module, type OnApplicationBootstrap, type OnModuleInit, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { DelayedError, type Job, type Queue, RateLimitError, UnrecoverableError, Worker } from 'bullmq';
import {
  BackgroundTask,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  BackgroundTasksRunner,
  currentTask,
} from 'nestjs-background-tasks';
import { RecordedLogs } from '../support/app.js';
import { engineOn, notTested, ownBackends, queueOn } from '../support/backends.js';
import { type Gate, gate } from '../support/gate.js';
import { type Proxy, startProxy } from '../support/proxy.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';
import { turns } from '../support/turns.js';

let ran: Recorder<string>;
let reported: Recorder<string>;
let held: Gate;
/** The value that the task `odd` throws. */
let thrown: unknown;
/** Called before it throws. */
let onOdd: () => void;
/** Called when the task `held` starts, and when its signal fires. */
let onStart: () => void;
let onAbort: () => void;

@Injectable()
class WorkTasks {
  @BackgroundTask('odd', { attempts: 2 })
  odd(): void {
    ran.add('odd');
    onOdd();
    throw thrown;
  }

  @BackgroundTask('held', { attempts: 1 })
  async held(): Promise<void> {
    const { signal } = currentTask()!;
    signal.addEventListener('abort', () => onAbort());
    ran.add('held');
    onStart();
    await held.opened;
  }
}

if (notTested(ownBackends).length > 0) it.skip.each(notTested(ownBackends))('%s', () => undefined);

describe.each(ownBackends)('a worker of BullMQ on $name', (backend) => {
  let server: Server;
  let proxy: Proxy;
  let queue: Queue;

  beforeAll(async () => {
    server = await backend.start();
    proxy = await startProxy(server.url);
  }, 30_000);

  afterAll(async () => {
    await proxy.close();
    await server.remove();
  });

  beforeEach(async () => {
    ran = new Recorder();
    reported = new Recorder();
    held = gate();
    onOdd = onStart = onAbort = () => undefined;
    queue = queueOn(backend, server.url, `test-${randomUUID()}`);
    await queue.waitUntilReady();
  });

  afterEach(() => queue.close());

  async function start(worker: object = {}, options: BackgroundTasksModuleOptions = {}, providers: Type[] = [WorkTasks]) {
    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({
            engine: engineOn(backend, proxy.url, { queue: queue.name, worker: { lockDuration: 1_000, stalledInterval: 100, ...worker } }),
            onError: (error, task) => reported.add(`${task.name}, attempt ${task.attempt}: ${messageOf(error)}`),
            ...options,
          }),
        }),
      ],
      providers,
    })
    class WorkerModule {}

    const logs = new RecordedLogs();
    const app = await NestFactory.createApplicationContext(WorkerModule, { logger: logs, abortOnError: false });
    return { app, logs };
  }

  /** Puts a task into the queue, as the engine does. */
  async function add(name: string, attempts = 1): Promise<string> {
    const { id } = await queue.add(name, { provider: 'WorkTasks', args: '[]' }, { jobId: randomUUID(), attempts });
    return id!;
  }

  async function stateOf(id: string) {
    const { attemptsMade } = (await queue.getJob(id))!;
    return { state: await queue.getJobState(id), attemptsMade };
  }

  class Unreadable extends Error {
    override get message(): string {
      throw new Error('no message');
    }
  }

  it.each([
    ['that cannot be read', () => new Unreadable(), 'an error that cannot be printed'],
    ["with the name of BullMQ's error for a task that was moved", () => new DelayedError(), 'bullmq:movedToDelayed'],
    ["that is BullMQ's for a queue that is to pause", () => new RateLimitError(), 'bullmq:rateLimitExceeded'],
  ])('fails a task that throws an error %s', async (_what, error, message) => {
    thrown = error();
    const { app } = await start();
    const id = await add('odd', 2);
    await reported.atLeast(2);
    await app.close();
    expect(reported.all).toEqual([`odd, attempt 1: ${message}`, `odd, attempt 2: ${message}`]);
    await expect(stateOf(id)).resolves.toEqual({ state: 'failed', attemptsMade: 2 });
  });

  it.each([
    ['NUL', 'no such file: a\0b'],
    ['half a surrogate pair', 'a \ud83d b'],
    ['a long stack that is cut in an emoji', '😀'.repeat(3_000)],
  ])('stores a failure with %s, and uses its attempt', async (_what, message) => {
    thrown = new Error(message);
    const { app } = await start();
    const id = await add('odd');
    await reported.atLeast(1);
    while ((await stateOf(id)).state !== 'failed') await setImmediate();
    await app.close();
    expect(reported.all).toHaveLength(1);
    await expect(stateOf(id)).resolves.toEqual({ state: 'failed', attemptsMade: 1 });
  });

  it('is well again after an outage while all its places are taken', async () => {
    const { app } = await start({ concurrency: 1 });
    const runner = app.get(BackgroundTasksRunner);
    await add('held');
    await ran.atLeast(1);
    proxy.cut();
    while ((await runner.health()).engine?.works !== false) await setImmediate();
    proxy.restore();
    while ((await runner.health()).engine?.works !== true) await setImmediate();
    held.open();
    await app.close();
  });

  it('is no worker of an application that was closed while it started', async () => {
    const started = gate();
    @Injectable()
    class Slow implements OnModuleInit {
      onModuleInit(): Promise<void> {
        return started.opened;
      }
    }
    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({ engine: engineOn(backend, proxy.url, { queue: queue.name, worker: {} }) }),
        }),
      ],
      providers: [WorkTasks, Slow],
    })
    class SlowModule {}
    const app = await NestFactory.create(SlowModule, { logger: false, abortOnError: false });
    const init = app.init();
    await app.close();
    started.open();
    await init;
    while (proxy.connections > 0) await setImmediate();
    const id = await add('held');
    for (let times = 0; times < 20; times++) await turns();
    await expect(stateOf(id)).resolves.toEqual({ state: 'waiting', attemptsMade: 0 });
  });

  it('gives the place of a task that has failed to the next one, although `onError` has not ended', async () => {
    thrown = new Error('no such customer');
    const reporting = gate();
    const { app } = await start({ concurrency: 1 }, { onError: () => reporting.opened });
    await add('odd');
    await add('held');
    held.open();
    await ran.containing('odd', 'held');
    let isClosed = false;
    const closed = app.close().then(() => (isClosed = true));
    for (let times = 0; times < 20; times++) await turns();
    expect(isClosed).toBe(false);
    reporting.open();
    await closed;
  });

  it('does not requeue a task that failed before the deadline of a shutdown, while its failure is reported', async () => {
    thrown = new Error('no such customer');
    const reporting = gate();
    const onError = async (): Promise<void> => {
      reported.add('odd');
      await reporting.opened;
    };
    const { app } = await start({}, { onError, shutdownTimeout: 10 });
    const id = await add('odd');
    await reported.atLeast(1);
    const closed = app.close();
    for (let times = 0; times < 20; times++) await turns();
    reporting.open();
    await closed;
    await expect(stateOf(id)).resolves.toEqual({ state: 'failed', attemptsMade: 1 });
  });

  it('fails a job whose data is not of this package', async () => {
    const { app } = await start();
    const jobs = await Promise.all([null, 'text'].map((data) => queue.add('odd', data)));
    const unknown = await queue.add('unknown', 'text');
    for (const { id } of [...jobs, unknown]) while ((await queue.getJobState(id!)) !== 'failed') await setImmediate();
    await app.close();
    expect(ran.all).toEqual([]);
    expect((await queue.getJob(unknown.id!))!.data).toBe('text');
  });

  it("does not retry a task that throws BullMQ's UnrecoverableError", async () => {
    thrown = new UnrecoverableError('no such customer');
    const { app } = await start();
    const id = await add('odd', 2);
    await reported.atLeast(1);
    await app.close();
    expect(reported.all).toEqual(['odd, attempt 1: no such customer']);
    await expect(stateOf(id)).resolves.toEqual({ state: 'failed', attemptsMade: 1 });
  });

  it('reports the attempt that BullMQ itself fails because its worker died', async () => {
    const id = await add('held');
    await dieWith({ aloneAfterDeaths: 0 });
    const { app } = await start({ maxStalledCount: 0 });
    await reported.atLeast(1);
    await app.close();
    expect(reported.all).toEqual([
      'held, attempt 1: its worker died once while it ran, the last time without any other task beside it; find out what ends the process, such as running out of memory, and retry it by hand',
    ]);
    await expect(stateOf(id)).resolves.toEqual({ state: 'failed', attemptsMade: 1 });
  });

  it('does not blame a task that ran alone and failed by itself for a death before that', async () => {
    thrown = new Error('no such customer');
    const id = await add('odd', 2);
    await dieWith({});
    const { app } = await start({ maxStalledCount: 0 });
    await reported.atLeast(2);
    await app.close();
    expect(reported.all).toEqual(['odd, attempt 1: no such customer', 'odd, attempt 2: no such customer']);
    await expect(stateOf(id)).resolves.toEqual({ state: 'failed', attemptsMade: 2 });
  });

  it('does not blame a task that ran alone and was requeued by a shutdown for a death before that', async () => {
    const id = await add('held');
    await dieWith({});
    const first = await start({ maxStalledCount: 0 }, { shutdownTimeout: 10 });
    await ran.atLeast(1);
    await first.app.close();
    held.open();
    const second = await start({ maxStalledCount: 0 });
    await ran.atLeast(2);
    await second.app.close();
    expect(reported.all).toEqual([]);
    await expect(stateOf(id)).resolves.toEqual({ state: 'completed', attemptsMade: 1 });
  });

  it('gives a task whose method a worker lacks a new day after each run', async () => {
    const dayAgo = Date.now() - 25 * 3_600_000;
    thrown = new Error('no such customer');
    const { id } = await queue.add(
      'odd',
      { provider: 'WorkTasks', args: '[]', unknownSince: dayAgo },
      { jobId: randomUUID(), attempts: 1 },
    );
    const { app } = await start();
    await reported.atLeast(1);
    await app.close();
    expect((await queue.getJob(id!))!.data).not.toHaveProperty('unknownSince');
  });

  /** Starts the only job in a worker that dies. */
  async function dieWith(data: { aloneAfterDeaths?: number }): Promise<void> {
    const dying = new Worker(queue.name, null, { ...queue.opts, lockDuration: 1 }, queueFactory());
    const job: Job | undefined = await dying.getNextJob('token');
    await job!.updateData({ ...job!.data, ...data });
    await dying.close(true);
  }

  function queueFactory() {
    return backend.settings(server.url).backend as undefined;
  }

  it('does not fail a task that ended well as the connection broke', async () => {
    onStart = () => {
      onStart = () => undefined;
      held.open();
      proxy.cut();
    };
    const { app } = await start();
    const id = await add('held');
    await ran.atLeast(1);
    proxy.restore();
    // Run again at worst, when its lock has run out.
    while (['waiting', 'active'].includes((await stateOf(id)).state)) await setImmediate();
    await app.close();
    expect(reported.all).toEqual([]);
    await expect(stateOf(id)).resolves.toEqual({ state: 'completed', attemptsMade: 1 });
  });

  it('does not fail a task that it cannot requeue: the task runs again when its lock has expired', async () => {
    onAbort = () => proxy.cut();
    const { app, logs } = await start({}, { shutdownTimeout: 10 });
    const id = await add('held');
    await ran.atLeast(1);
    await app.close();
    proxy.restore();
    await expect(stateOf(id)).resolves.toEqual({ state: 'active', attemptsMade: 0 });
    expect(logs.of('warn')[0]).toBe(
      `Background task "held" (job ${id}) was requeued, and will run again: the application shuts down, and its shutdownTimeout of 10 ms is over`,
    );
    expect(reported.all).toEqual([]);

    held.open();
    const next = await start();
    await ran.atLeast(2);
    await next.app.close();
    await expect(stateOf(id)).resolves.toEqual({ state: 'completed', attemptsMade: 1 });
  });

  // As Postgres says it when it shuts down, or when an administrator ends its connections.
  const lastWords = Buffer.from('E\0\0\0$SFATAL\0C57P01\0Mthe server ends\0\0', 'latin1');

  it.each([['without a word', undefined], ...(backend.name === 'Postgres' ? ([['with last words', lastWords]] as const) : [])])(
    'survives that its server goes away %s while it connects, and so does its queue',
    async (_how, words) => {
      held.open();
      // At each moment of it. What nobody catches fails the test.
      for (let answer = 1; ran.all.length === 0; answer++) {
        const cut = proxy.cutAtAnswer(answer, words);
        const { app } = await start();
        await add('held');
        await Promise.race([cut, ran.atLeast(1)]);
        proxy.restore();
        await app.close();
      }
    },
  );

  it('does not start a task again that it still runs, although the lock expired while the server was away', async () => {
    const { app } = await start();
    const id = await add('held');
    await ran.atLeast(1);
    proxy.cut();
    await stalled();
    proxy.restore();
    // Until it has been handed out once more, and the next one after it.
    while ((await stateOf(id)).state !== 'active') await setImmediate();
    thrown = new Error('no such customer');
    await add('odd');
    await reported.atLeast(1);
    held.open();
    while ((await stateOf(id)).state === 'active') await setImmediate();
    await app.close();
    expect(ran.all).toEqual(['held', 'odd']);
    expect(reported.all).toEqual(['odd, attempt 1: no such customer']);
    await expect(stateOf(id)).resolves.toEqual({ state: 'completed', attemptsMade: 1 });
  });

  /** Resolves once a task has been taken from a worker that does not renew its lock. */
  async function stalled(): Promise<void> {
    const guard = new Worker(queue.name, null, { ...queue.opts, stalledInterval: 100 }, queueFactory());
    guard.on('error', () => undefined);
    await guard.waitUntilReady();
    const taken = once(guard, 'stalled');
    await guard.startStalledCheckTimer();
    await taken;
    await guard.close();
  }

  it('records that a task failed, also if its connection breaks at that moment', async () => {
    thrown = new Error('no such customer');
    onOdd = () => {
      onOdd = () => undefined;
      proxy.cut();
    };
    const { app } = await start({ lockDuration: 10_000 });
    const id = await add('odd');
    await reported.atLeast(1);
    proxy.restore();
    while ((await stateOf(id)).state !== 'failed') await setImmediate();
    await app.close();
    expect(ran.all).toEqual(['odd']);
    expect(reported.all).toEqual(['odd, attempt 1: no such customer']);
    await expect(stateOf(id)).resolves.toEqual({ state: 'failed', attemptsMade: 1 });
  });

  it('fetches no task while one that may have killed its worker runs, also if another one has just ended', async () => {
    const suspects = [await add('held'), await add('held')];
    const dying = new Worker(queue.name, null, { ...queue.opts, lockDuration: 1 }, queueFactory());
    for (const token of ['a', 'b']) await dying.getNextJob(token);
    await dying.close(true);
    // The first one ends at once, the second one when the test says so.
    onStart = () => (ran.all.length === 1 ? held.open() : (held = gate()));
    const { app } = await start({ maxStalledCount: 0 });
    await ran.atLeast(2);
    thrown = new Error('no such customer');
    const innocent = await add('odd');
    for (let times = 0; times < 20; times++) await turns();
    held.open();
    await reported.atLeast(1);
    await app.close();
    const ends = await Promise.all(suspects.map(async (id) => (await queue.getJob(id))!.finishedOn!));
    expect((await queue.getJob(innocent))!.processedOn).toBeGreaterThanOrEqual(Math.max(...ends));
  });

  it('closes the connection on which a task was added before the worker started', async () => {
    held.open();
    @Injectable()
    class Early implements OnApplicationBootstrap {
      constructor(@Inject(BackgroundTasksRunner) private readonly runner: BackgroundTasksRunner) {}

      async onApplicationBootstrap(): Promise<void> {
        await this.runner.within((tasks) => void tasks.addTask(WorkTasks.prototype.held));
      }
    }
    const { app } = await start({}, {}, [WorkTasks, Early]);
    await ran.atLeast(1);
    await app.close();
    while (proxy.connections > 0) await setImmediate();
  });

  it('can close while it still connects, and so can its queue', async () => {
    // At each moment of it. What nobody catches fails the test.
    for (let turns = 0; turns < 20; turns++) {
      const { app } = await start();
      for (let turn = 0; turn < turns; turn++) await setImmediate();
      await app.close();
    }
    proxy.cut();
    const { app } = await start();
    await app.close();
    proxy.restore();
  });
});

function messageOf(error: unknown): string {
  return error instanceof Error && Object.hasOwn(error, 'message') ? error.message : 'an error that cannot be printed';
}
