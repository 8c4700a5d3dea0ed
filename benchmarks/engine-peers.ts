import { randomUUID } from 'node:crypto';
import { Controller, Get, Injectable, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { type Queue, Worker } from 'bullmq';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { engineOn, ownBackends, queueOn } from '../test/support/backends.js';
import { serve } from './support/child.js';

// The child process of engine.ts: a Fastify route that adds a task to BullMQ by hand, or through the package, with the same settings.

const [peer, database, url] = process.argv.slice(2) as [string, string, string];
const backend = ownBackends.find(({ name }) => name === database)!;

const CONCURRENCY = 10;

/** The tasks that have run, and those that somebody waits for. */
let count = 0;
let awaited = Infinity;
let allRan: () => void = () => undefined;

function ran(): void {
  count += 1;
  if (count === awaited) allRan();
}

let queue: Queue;

@Controller()
class ByHandController {
  @Get('mail')
  async mail() {
    const job = {
      name: 'mail',
      data: { to: 'ada@example.com', subject: 'Welcome' },
      opts: {
        jobId: randomUUID(),
        attempts: 3,
        backoff: { type: 'exponential', delay: 1_000 },
        removeOnComplete: { age: 600 },
        removeOnFail: { age: 604_800 },
      },
    };
    await queue.addBulk([job]);
    return 'answer';
  }
}

@Module({ controllers: [ByHandController] })
class ByHandModule {}

@Injectable()
class MailTasks {
  @BackgroundTask('mail', { attempts: 3, backoff: { type: 'exponential', delay: 1_000 } })
  async mail(_to: string, _subject: string): Promise<void> {
    ran();
  }
}

@Controller()
class PackageController {
  constructor(private readonly mails: MailTasks) {}

  @Get('mail')
  mail(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.mails.mail, 'ada@example.com', 'Welcome');
    return 'answer';
  }
}

function moduleOf(name: string, withWorker: boolean): Type {
  if (peer === 'by hand') return ByHandModule;

  @Module({
    imports: [
      BackgroundTasksModule.forRoot({
        engine: engineOn(backend, url, { queue: name, worker: withWorker && { concurrency: CONCURRENCY } }),
      }),
    ],
    controllers: [PackageController],
    providers: [MailTasks],
  })
  class PackageModule {}

  return PackageModule;
}

function workerByHand(name: string): Worker {
  const settings = { connection: queue.opts.connection, concurrency: CONCURRENCY, lockDuration: 10_000, stalledInterval: 5_000 };
  return new Worker(name, async () => ran(), settings, backend.settings(url).backend as undefined);
}

let stop: () => Promise<void>;

serve({
  /** Serves the route on a queue of its own. Returns its URL. */
  async start(withWorker: boolean): Promise<string> {
    const name = `bench-${randomUUID()}`;
    queue = queueOn(backend, url, name);
    await queue.waitUntilReady();
    const app = await NestFactory.create(moduleOf(name, withWorker), new FastifyAdapter(), { logger: ['warn', 'error'] });
    const worker = withWorker && peer === 'by hand' ? workerByHand(name) : undefined;
    await worker?.waitUntilReady();
    app.enableShutdownHooks();
    await app.listen(0, '127.0.0.1');
    stop = async () => {
      await app.close();
      await worker?.close();
      await queue.obliterate({ force: true });
      await queue.close();
    };
    return `${await app.getUrl()}/mail`;
  },

  /** Resolves once so many tasks have run, and forgets them. */
  async ran(tasks: number): Promise<void> {
    awaited = tasks;
    if (count < tasks) await new Promise<void>((resolve) => (allRan = resolve));
    count = 0;
    awaited = Infinity;
  },

  /** Microseconds of processor time that this process has used. */
  cpu() {
    const { user, system } = process.cpuUsage();
    return user + system;
  },

  stop: () => stop(),
});
