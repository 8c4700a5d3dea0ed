import { randomUUID } from 'node:crypto';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Queue, Worker } from 'bullmq';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { engineOn, ownBackends, queueOn } from '../test/support/backends.js';
import { serve } from './support/child.js';

// The child process of engine.ts: BullMQ as one would use it by hand, or through the package, with the same settings.

const [peer, database, url] = process.argv.slice(2) as [string, string, string];
const backend = ownBackends.find(({ name }) => name === database)!;

/** Requests that flush at the same time, and the tasks of each. */
const [AT_ONCE, TASKS] = [20, 2];
const CONCURRENCY = 10;

interface Side {
  /** Hands over what requests add at the same time; resolves once the queue has it. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

let left = 0;
let ended: () => void = () => undefined;

function ran(): void {
  left -= 1;
  if (left === 0) ended();
}

@Injectable()
class MailTasks {
  @BackgroundTask('mail', { attempts: 3, backoff: { type: 'exponential', delay: 1_000 } })
  async mail(_to: string, _subject: string): Promise<void> {
    ran();
  }
}

const sides: Record<string, (queue: string, withWorker: boolean) => Promise<Side>> = {
  async raw(name, withWorker) {
    const queue: Queue = queueOn(backend, url, name);
    await queue.waitUntilReady();
    const settings = { connection: queue.opts.connection, concurrency: CONCURRENCY, lockDuration: 10_000, stalledInterval: 5_000 };
    const factory = backend.settings(url).backend as undefined;
    const worker = withWorker ? new Worker(name, async () => ran(), settings, factory) : undefined;
    await worker?.waitUntilReady();
    const jobs = () =>
      Array.from({ length: TASKS }, () => ({
        name: 'mail',
        data: { to: 'ada@example.com', subject: 'Welcome' },
        opts: {
          jobId: randomUUID(),
          attempts: 3,
          backoff: { type: 'exponential', delay: 1_000 },
          removeOnComplete: { age: 3_600, count: 1_000 },
          removeOnFail: { age: 604_800 },
        },
      }));
    return {
      async flush() {
        await Promise.all(Array.from({ length: AT_ONCE }, () => queue.addBulk(jobs())));
      },
      async close() {
        await worker?.close();
        await queue.obliterate({ force: true });
        await queue.close();
      },
    };
  },

  async package(name, withWorker) {
    @Module({
      imports: [
        BackgroundTasksModule.forRoot({
          engine: engineOn(backend, url, { queue: name, worker: withWorker && { concurrency: CONCURRENCY } }),
        }),
      ],
      providers: [MailTasks],
    })
    class AppModule {}

    const app = await NestFactory.createApplicationContext(AppModule, { logger: ['warn', 'error'] });
    const runner = app.get(BackgroundTasksRunner);
    const queue = queueOn(backend, url, name);
    await queue.waitUntilReady();
    // What Nest takes to make a list is not what is measured. Outside any request, a list flushes whatever is added in one go.
    const lists = await Promise.all(Array.from({ length: AT_ONCE }, () => app.resolve(BackgroundTasks)));
    return {
      async flush() {
        for (const list of lists) {
          for (let task = 0; task < TASKS; task += 1) list.addTask(MailTasks.prototype.mail, 'ada@example.com', 'Welcome');
        }
        await runner.onIdle();
      },
      async close() {
        await app.close();
        await queue.obliterate({ force: true });
        await queue.close();
      },
    };
  },
};

/** Tasks per second. */
async function measure(requests: number, withWorker: boolean): Promise<{ 'tasks/s': number }> {
  const side = await sides[peer]!(`bench-${randomUUID()}`, withWorker);
  // What the first flush costs, such as loading scripts, is not what is measured.
  left = AT_ONCE * TASKS;
  const warm = new Promise<void>((resolve) => (ended = resolve));
  await side.flush();
  if (withWorker) await warm;

  left = requests * TASKS;
  const allRan = new Promise<void>((resolve) => (ended = resolve));
  const start = performance.now();
  for (let done = 0; done < requests; done += AT_ONCE) await side.flush();
  if (withWorker) await allRan;
  const seconds = (performance.now() - start) / 1_000;
  await side.close();
  return { 'tasks/s': (requests * TASKS) / seconds };
}

serve({ measure });
