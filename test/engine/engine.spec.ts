// Guarantee 10: a task of an engine is added with the same call, is in the queue before the client has its answer, and is run by a worker.
import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Controller, Inject, Injectable, Module, Param, Post, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Job, Queue } from 'bullmq';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  currentTask,
} from 'nestjs-background-tasks';
import type { BullmqEngineOptions } from 'nestjs-background-tasks/bullmq';
import { RecordedLogs, createApp, platforms } from '../support/app.js';
import { backends, engineOn, notTested, queueOn } from '../support/backends.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';

let ran: Recorder<string>;
let reported: Recorder<string>;
/** Holds tasks back that wait for it. */
let held: Gate;

beforeEach(() => {
  ran = new Recorder();
  reported = new Recorder();
  held = gate();
});

@Injectable()
class Smtp {
  readonly host = 'smtp.example.com';
}

@Injectable()
class MailTasks {
  constructor(@Inject(Smtp) private readonly smtp: Smtp) {}

  @BackgroundTask('mail')
  async mail(to: string, options: { copies: number }): Promise<void> {
    const { name, attempt } = currentTask()!;
    await Promise.resolve();
    ran.add(`${name} to ${to} × ${options.copies}, attempt ${attempt}, by ${this.smtp.host}`);
  }

  @BackgroundTask('flaky', { attempts: 3, backoff: 1 })
  flaky(): void {
    const { attempt } = currentTask()!;
    ran.add(`attempt ${attempt}`);
    if (attempt < 3) throw new Error(`attempt ${attempt} failed`);
  }

  @BackgroundTask('hopeless', { attempts: 2 })
  hopeless(): void {
    // A thrown value need not be an error.
    throw 'a string'; // eslint-disable-line no-throw-literal
  }

  @BackgroundTask('slow', { timeout: 10 })
  async slow(): Promise<void> {
    const { signal } = currentTask()!;
    await new Promise((resolve) => signal.addEventListener('abort', resolve));
    ran.add(`given up: ${(signal.reason as Error).name}`);
  }

  @BackgroundTask('held')
  async held(): Promise<void> {
    const { signal } = currentTask()!;
    signal.addEventListener('abort', () => ran.add(`stopped: ${(signal.reason as Error).message}`));
    ran.add('started');
    await held.opened;
    ran.add('ended');
  }

  @BackgroundTask('quick')
  quick(): void {
    ran.add(currentTask()!.id);
  }

  @BackgroundTask('postponed', { delay: 60_000 })
  postponed(): void {}

  @BackgroundTask('report', { deduplication: { id: (customer: string) => customer } })
  async report(customer: string): Promise<void> {
    ran.add(`report of ${customer}`);
    await held.opened;
  }

  @BackgroundTask('urgent', { priority: 1 })
  urgent(): void {}
}

@Controller()
class MailController {
  constructor(@Inject(MailTasks) private readonly tasks: MailTasks) {}

  @Post('mail')
  mail(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.mail, 'a@example.com', { copies: 2 });
    tasks.addTask(MailTasks.prototype.mail, 'b@example.com', { copies: 1 });
    tasks.addTask(() => ran.add('plain task'));
    return 'answer';
  }

  @Post('flaky')
  flaky(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.flaky);
  }

  @Post('hopeless')
  hopeless(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.hopeless);
  }

  @Post('slow')
  slow(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.slow);
  }

  @Post('held')
  held(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.held);
  }

  @Post('report/:customer')
  report(@Param('customer') customer: string, @BackgroundTasks() tasks: BackgroundTasks) {
    return tasks.addTask(this.tasks.report, customer).id;
  }

  @Post('many/:count')
  many(@Param('count') count: string, @BackgroundTasks() tasks: BackgroundTasks) {
    for (let n = 0; n < Number(count); n++) tasks.addTask(this.tasks.quick);
  }

  @Post('options')
  options(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.postponed);
    tasks.addTask(this.tasks.urgent);
    tasks.addTask(this.tasks.flaky);
  }
}

if (notTested(backends).length > 0) it.skip.each(notTested(backends))('%s', () => undefined);

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

  afterEach(async () => {
    await queue.close();
    jest.restoreAllMocks();
  });

  /** An application with an engine on the queue of the test. */
  function moduleOf(
    worker: BullmqEngineOptions['worker'],
    options: BackgroundTasksModuleOptions = {},
    providers: Type[] = [MailTasks, Smtp],
  ) {
    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({
            engine: engineOn(backend, server.url, { queue: queue.name, worker }),
            onError: (error, task) => reported.add(`${task.name}, attempt ${task.attempt}: ${(error as Error).message ?? error}`),
            ...options,
          }),
        }),
      ],
      controllers: providers.includes(MailTasks) ? [MailController] : [],
      providers,
    })
    class AppModule {}

    return AppModule;
  }

  /** Starts a worker of its own, without a server, as `NestFactory.createApplicationContext(WorkerModule)` does. */
  async function startWorker(options?: BackgroundTasksModuleOptions, providers?: Type[]) {
    const logs = new RecordedLogs();
    const worker = await NestFactory.createApplicationContext(moduleOf({}, options, providers), { logger: logs, abortOnError: false });
    return { worker, logs };
  }

  describe.each(platforms)('and %s', (platform) => {
    it('has the tasks of a request in the queue when the client has its answer, all with one call', async () => {
      const addBulk = jest.spyOn(Queue.prototype, 'addBulk');
      const { http, runner } = await createApp(platform, moduleOf(false));
      await http.post('/mail').expect(201, 'answer');
      const jobs = await queue.getJobs(['waiting'], 0, -1, true);
      expect(jobs.map(({ name, data }) => [name, data])).toEqual(
        ['["a@example.com",{"copies":2}]', '["b@example.com",{"copies":1}]'].map((args) => ['mail', { provider: 'MailTasks', args }]),
      );
      expect(addBulk).toHaveBeenCalledTimes(1);
      await runner.onIdle();
      expect(ran.all).toEqual(['plain task']);
    });

    it('runs tasks on their provider, in this process or in a worker process', async () => {
      const { http } = await createApp(platform, moduleOf(false));
      await http.post('/mail').expect(201, 'answer');
      const { worker } = await startWorker();
      expect((await ran.atLeast(3)).sort()).toEqual([
        'mail to a@example.com × 2, attempt 1, by smtp.example.com',
        'mail to b@example.com × 1, attempt 1, by smtp.example.com',
        'plain task',
      ]);
      await worker.close();
    });
  });

  it('tries a task that fails again, and reports each failure', async () => {
    const { http, logs } = await createApp('Express', moduleOf({}));
    await http.post('/flaky').expect(201);
    await expect(ran.atLeast(3)).resolves.toEqual(['attempt 1', 'attempt 2', 'attempt 3']);
    const [{ id }] = (await queue.getJobs()) as [Job];
    expect(reported.all).toEqual(['flaky, attempt 1: attempt 1 failed', 'flaky, attempt 2: attempt 2 failed']);
    expect(logs.of('error')).toEqual([
      `Background task "flaky" failed (attempt 1 of 3, job ${id}): attempt 1 failed`,
      `Background task "flaky" failed (attempt 2 of 3, job ${id}): attempt 2 failed`,
    ]);
  });

  it('serves one application after another', async () => {
    const engine = engineOn(backend, server.url, { queue: queue.name, worker: {} });

    @Module({ imports: [BackgroundTasksModule.forRoot({ engine })], controllers: [MailController], providers: [MailTasks, Smtp] })
    class AppModule {}

    for (const ranSoFar of [3, 6]) {
      const { http, app } = await createApp('Express', AppModule);
      await http.post('/mail').expect(201, 'answer');
      await ran.atLeast(ranSoFar);
      await app.close();
    }
  });

  it('serves two applications that are open at once, and the one that stays', async () => {
    const engine = engineOn(backend, server.url, { queue: queue.name, worker: {} });

    @Module({ imports: [BackgroundTasksModule.forRoot({ engine })], controllers: [MailController], providers: [MailTasks, Smtp] })
    class AppModule {}

    const [first, second] = [await createApp('Express', AppModule), await createApp('Fastify', AppModule)];
    await first.http.post('/mail').expect(201, 'answer');
    await second.http.post('/mail').expect(201, 'answer');
    await ran.atLeast(6);
    await first.app.close();
    await second.http.post('/mail').expect(201, 'answer');
    await ran.atLeast(9);
    await second.app.close();
  });

  it('keeps a task that has failed for good in the queue', async () => {
    const { http, app } = await createApp('Express', moduleOf({}));
    await http.post('/hopeless').expect(201);
    await expect(reported.atLeast(2)).resolves.toEqual(['hopeless, attempt 1: a string', 'hopeless, attempt 2: a string']);
    await app.close();
    const [job] = await queue.getFailed();
    expect(job).toMatchObject({ name: 'hopeless', attemptsMade: 2, failedReason: "'a string'" });
  });

  it('aborts an attempt at its timeout', async () => {
    const { http } = await createApp('Express', moduleOf({}));
    await http.post('/slow').expect(201);
    await ran.atLeast(1);
    await reported.atLeast(1);
    expect(ran.all).toEqual(['given up: BackgroundTasksTimeoutError']);
    expect(reported.all).toEqual([expect.stringMatching(/^slow, attempt 1: .*its timeout of 10 ms/)]);
  });

  it('puts the options of the decorator on the job: delay, priority, attempts and backoff', async () => {
    const { http } = await createApp('Express', moduleOf(false));
    await http.post('/options').expect(201);
    const jobs = await queue.getJobs(['waiting', 'prioritized', 'delayed']);
    const keep = { removeOnComplete: { age: 600 }, removeOnFail: { age: 604_800 } };
    expect(Object.fromEntries(jobs.map(({ name, opts }) => [name, opts]))).toEqual({
      postponed: expect.objectContaining({ delay: 60_000, ...keep }),
      urgent: expect.objectContaining({ priority: 1, ...keep }),
      flaky: expect.objectContaining({ attempts: 3, backoff: { type: 'fixed', delay: 1 }, ...keep }),
    });
  });

  it('finds a task by its id, and takes no second task with its deduplication key before it has ended', async () => {
    const { http } = await createApp('Express', moduleOf({}));
    const { text: id } = await http.post('/report/ada').expect(201);
    await ran.atLeast(1);
    await expect(Job.fromId(queue, id)).resolves.toMatchObject({ id, name: 'report', data: { args: '["ada"]' } });
    const { text: same } = await http.post('/report/ada').expect(201);
    await expect(Job.fromId(queue, same)).resolves.toBeUndefined();
    await http.post('/report/grace').expect(201);
    await ran.atLeast(2);
    held.open();
    // Its end frees the key.
    while ((await queue.getJobState(id)) !== 'completed') await setImmediate();
    await http.post('/report/ada').expect(201);
    await ran.atLeast(3);
    expect(ran.all).toEqual(['report of ada', 'report of grace', 'report of ada']);
  });

  it('ignores entries that it already has, also after they have run', async () => {
    const engine = engineOn(backend, server.url, { queue: queue.name, worker: false });
    const { signal } = new AbortController();
    const entries = ['a', 'b'].map((id) => ({
      id,
      name: 'mail',
      provider: 'MailTasks',
      args: `["${id}",{"copies":1}]`,
      timeout: undefined,
      trace: undefined,
      options: {},
    }));
    await engine.enqueue(entries.slice(0, 1), signal);
    await engine.enqueue(entries, signal);
    const { worker } = await startWorker();
    await ran.atLeast(2);
    await engine.enqueue(entries, signal);
    await worker.close();
    await engine.close({ tasks: [], knows: () => true, run: () => Promise.resolve(), failed: () => {} });
    expect(ran.all.map((line) => line.slice(0, 9)).sort()).toEqual(['mail to a', 'mail to b']);
    await expect(queue.getJobCounts()).resolves.toMatchObject({ waiting: 0, active: 0, completed: 2 });
  });

  it('takes a long list in pieces, runs each task once, and still recognises the first one after the last', async () => {
    const addBulk = jest.spyOn(Queue.prototype, 'addBulk');
    // More than a count of completed jobs that BullMQ's users keep.
    const { http } = await createApp('Express', moduleOf({}));
    await http.post('/many/1100').expect(201);
    expect(addBulk.mock.calls.map(([jobs]) => jobs.length)).toEqual([200, 200, 200, 200, 200, 100]);
    await ran.atLeast(1_100);
    const [piece] = addBulk.mock.calls[0]!;
    await queue.addBulk(piece.slice(0, 1));
    await http.post('/many/1').expect(201);
    await ran.atLeast(1_101);
    expect(new Set(ran.all).size).toBe(1_101);
  });

  it('fails a job that somebody else has put into the queue, and reports it once', async () => {
    await queue.add('mail', { card: '4242' });
    const { worker } = await startWorker();
    await reported.atLeast(1);
    await worker.close();
    expect(reported.all).toEqual([
      expect.stringMatching(/^mail, attempt 1: Background task "mail" came from the engine with data that this package did not write/),
    ]);
    const [job] = await queue.getFailed();
    expect(job).toMatchObject({ name: 'mail', attemptsMade: 1 });
  });

  describe('when a worker closes', () => {
    it('waits for the tasks that run, and starts no others', async () => {
      const { http } = await createApp('Express', moduleOf(false));
      const { worker } = await startWorker();
      await http.post('/held').expect(201);
      await ran.atLeast(1);
      const closed = worker.close();
      await http.post('/mail').expect(201);
      held.open();
      await closed;
      expect(ran.all).toEqual(['started', 'plain task', 'ended']);
      // A task that was being fetched by then is requeued, and due at once.
      const { waiting, delayed, active, completed } = await queue.getJobCounts();
      expect([waiting! + delayed!, active, completed]).toEqual([2, 0, 1]);
    });

    it('fires signals at the shutdownTimeout, and returns tasks to the queue without using an attempt', async () => {
      const { http } = await createApp('Express', moduleOf(false));
      const { worker, logs } = await startWorker({ shutdownTimeout: 10 });
      await http.post('/held').expect(201);
      await ran.atLeast(1);
      await worker.close();
      const why = 'the application shuts down, and its shutdownTimeout of 10 ms is over';
      expect(ran.all).toEqual(['started', `stopped: Background task "held" was aborted: ${why}`]);
      const [{ id }] = (await queue.getJobs()) as [Job];
      expect(logs.of('warn')).toEqual([`Background task "held" (job ${id}) was requeued, and will run again: ${why}`]);
      expect(reported.all).toEqual([]);

      held.open();
      const next = await startWorker();
      await ran.atLeast(5);
      await next.worker.close();
      expect(ran.all.slice(2).sort()).toEqual(['ended', 'ended', 'started']);
      const [job] = await queue.getCompleted();
      expect(job).toMatchObject({ name: 'held', attemptsMade: 1 });
    });
  });

  it('keeps its tasks out of the counts of the runner', async () => {
    const { http, runner } = await createApp('Express', moduleOf({}));
    await http.post('/held').expect(201);
    await ran.atLeast(1);
    await runner.onIdle();
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
    held.open();
    await ran.atLeast(2);
  });
});
