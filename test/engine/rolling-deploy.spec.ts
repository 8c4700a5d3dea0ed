import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Injectable, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { Queue } from 'bullmq';
import { BackgroundTask, BackgroundTasksModule, BackgroundTasksRunner, currentTask } from 'nestjs-background-tasks';
import { RecordedLogs } from '../support/app.js';
import { backends, engineOn, notTested, queueOn } from '../support/backends.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';

// Guarantee 10: a task that no worker has tried has not failed, such as while two versions of an application, or two services, share a
// queue.

let ran: Recorder<string>;
let reported: Recorder<string>;

@Injectable()
class Receipts {
  @BackgroundTask('receipt')
  send(id: number): void {
    ran.add(`receipt ${id}, attempt ${currentTask()!.attempt}`);
  }
}

@Injectable()
class Invoices {
  @BackgroundTask('invoice')
  send(id: number): void {
    ran.add(`invoice ${id}, attempt ${currentTask()!.attempt}`);
  }
}

/** The next version of `Receipts`, whose method has another name. */
@Injectable()
class RenamedReceipts {
  @BackgroundTask('send-receipt')
  send(id: number): void {
    ran.add(`renamed receipt ${id}, attempt ${currentTask()!.attempt}`);
  }
}

if (notTested(backends).length > 0) it.skip.each(notTested(backends))('%s', () => undefined);

describe.each(backends)('workers on $name that lack a method', (backend) => {
  let server: Pick<Server, 'url' | 'remove'>;
  let name: string;

  beforeAll(async () => {
    server = await backend.start();
  }, 30_000);

  afterAll(() => server.remove());

  beforeEach(() => {
    name = randomUUID();
    ran = new Recorder();
    reported = new Recorder();
  });

  async function start(providers: Type[]) {
    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({
            engine: engineOn(backend, server.url, { queue: name, worker: {} }),
            onError: (error) => reported.add((error as Error).message),
          }),
        }),
      ],
      providers,
    })
    class AppModule {}

    const logs = new RecordedLogs();
    const app = await NestFactory.createApplicationContext(AppModule, { logger: logs, abortOnError: false });
    return { app, logs };
  }

  async function add({ app }: Awaited<ReturnType<typeof start>>, method: (id: number) => void, count: number): Promise<void> {
    await app.get(BackgroundTasksRunner).within((tasks) => {
      for (let id = 0; id < count; id++) tasks.addTask(method, id);
    });
  }

  async function withQueue<Result>(use: (queue: Queue) => Promise<Result>): Promise<Result> {
    const queue = queueOn(backend, server.url, name);
    try {
      return await use(queue);
    } finally {
      await queue.close();
    }
  }

  const failed = (): Promise<number> => withQueue((queue) => queue.getFailedCount());

  it.each<[string, Type[], Type[]]>([
    ['the old version of an application', [], [Receipts]],
    ['a version with a renamed method', [RenamedReceipts], [Receipts]],
  ])(
    '%s requeues them, and they run in the other with their first attempt',
    async (_what, without, having) => {
      const [lacking, knowing] = [await start(without), await start(having)];
      await add(knowing, Receipts.prototype.send, 10);
      await ran.atLeast(10);
      await Promise.all([lacking.app.close(), knowing.app.close()]);
      expect(new Set(ran.all)).toEqual(new Set(Array.from({ length: 10 }, (_, id) => `receipt ${id}, attempt 1`)));
      expect(reported.all).toEqual([]);
      await expect(failed()).resolves.toBe(0);
      // Once for the name, if the other has not been quicker each time.
      expect(lacking.logs.of('warn').length).toBeLessThanOrEqual(1);
    },
    120_000,
  );

  it('two services on one queue run their own tasks', async () => {
    const services = [await start([Receipts]), await start([Invoices])] as const;
    await Promise.all([add(services[0], Receipts.prototype.send, 8), add(services[1], Invoices.prototype.send, 8)]);
    await ran.atLeast(16);
    await Promise.all(services.map(({ app }) => app.close()));
    expect(new Set(ran.all).size).toBe(16);
    expect(reported.all).toEqual([]);
    await expect(failed()).resolves.toBe(0);
  }, 120_000);

  it('say once for each name which process lacks what', async () => {
    const { app, logs } = await start([]);
    await withQueue((queue) =>
      queue.addBulk(['receipt', 'receipt', 'invoice'].map((task) => ({ name: task, data: { provider: 'Receipts', args: '[1]' } }))),
    );
    await logs.saying('"receipt"');
    await logs.saying('"invoice"');
    await app.close();
    const lines = logs.of('warn').filter((line) => line.includes('"receipt"'));
    expect(lines).toEqual([
      expect.stringMatching(
        new RegExp(
          `^Background task "receipt" came from the engine, but this process \\(${process.pid} on .+\\) has no @BackgroundTask\\("receipt"\\) method\\. ` +
            'Its tasks are requeued for up to a day, for workers that have it\\. If there are none, add Receipts to the `providers`',
        ),
      ),
    ]);
  }, 30_000);

  it('fail them after a day, with what is missing', async () => {
    const { app } = await start([]);
    const data = { provider: 'Receipts', args: '[1]', unknownSince: Date.now() - 24 * 3_600_000 };
    const id = await withQueue(async (queue) => (await queue.add('receipt', data)).id!);
    await expect(reported.atLeast(1)).resolves.toEqual([
      'Background task "receipt" came from the engine, but no provider of this application has a @BackgroundTask("receipt") method: ' +
        'add Receipts to the `providers` of a module of the worker, or keep the name when you rename a method',
    ]);
    await withQueue(async (queue) => {
      while ((await queue.getJobState(id)) !== 'failed') await setImmediate();
      // A retry by hand has a day of its own.
      await expect(queue.getJob(id)).resolves.toMatchObject({ data: { provider: 'Receipts', args: '[1]' } });
    });
    await app.close();
  }, 30_000);
});
