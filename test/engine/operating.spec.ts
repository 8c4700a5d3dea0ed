import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { type INestApplicationContext, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { BackgroundTask, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { type BullmqEngineOptions, bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { RecordedLogs } from '../support/app.js';
import { notTested, ownBackends, queueOn } from '../support/backends.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';

// Operating the engine (guarantee 10): queues that do not wait for each other, health, the log, and how long tasks are kept.

let ran: Recorder<string>;
let held: Gate;
/** Unique to a test, as tests share the servers. */
const id = randomUUID();

@Injectable()
class WorkTasks {
  @BackgroundTask('mail')
  mail(to: string): void {
    ran.add(`mail to ${to}`);
  }

  @BackgroundTask('thumbnail', { queue: `thumbnails-${id}` })
  async thumbnail(file: string): Promise<void> {
    ran.add(`thumbnail of ${file}`);
    await held.opened;
  }

  @BackgroundTask('failing')
  failing(): void {
    throw new Error('no such customer');
  }
}

if (notTested(ownBackends).length > 0) it.skip.each(notTested(ownBackends))('%s', () => undefined);

describe.each(ownBackends)('an engine of BullMQ on $name', (backend) => {
  let server: Server;
  let name: string;
  const apps: INestApplicationContext[] = [];
  const queues: Queue[] = [];

  beforeAll(async () => {
    server = await backend.start();
  }, 30_000);

  afterAll(() => server.remove());

  beforeEach(() => {
    ran = new Recorder();
    held = gate();
    name = `test-${randomUUID()}`;
  });

  afterEach(async () => {
    held.open();
    await Promise.all(queues.splice(0).map((queue) => queue.close()));
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  async function start(options: Partial<BullmqEngineOptions> = {}, flushTimeout = 5_000) {
    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({ engine: bullmqEngine({ ...backend.settings(server.url), queue: name, ...options }), flushTimeout }),
        }),
      ],
      providers: [WorkTasks],
    })
    class AppModule {}

    const logs = new RecordedLogs();
    const app = await NestFactory.createApplicationContext(AppModule, { logger: logs, abortOnError: false });
    apps.push(app);
    return { app, logs, runner: app.get(BackgroundTasksRunner) };
  }

  function queue(of = name): Queue {
    const made = queueOn(backend, server.url, of);
    queues.push(made);
    return made;
  }

  /** Resolves once the application says this of its health. */
  async function saysOk(runner: BackgroundTasksRunner, ok: boolean) {
    let health = await runner.health();
    while (health.ok !== ok) {
      await setImmediate();
      health = await runner.health();
    }
    return health;
  }

  it('runs a fast task at once while the slow ones of another queue are at work, and more of them wait', async () => {
    const { runner } = await start({ worker: { concurrency: 1 }, queues: { [`thumbnails-${id}`]: { concurrency: 2 } } });
    await runner.within((tasks) => {
      for (const file of ['a', 'b', 'c', 'd']) tasks.addTask(WorkTasks.prototype.thumbnail, file);
      tasks.addTask(WorkTasks.prototype.mail, 'ada');
    });
    await ran.containing('thumbnail of a', 'thumbnail of b', 'mail to ada');
    expect(ran.all).toHaveLength(3);
    held.open();
    await ran.atLeast(5);
  });

  it('does not run the tasks of a queue that is not for this process, and another process does', async () => {
    const off = { queues: { [`thumbnails-${id}`]: false } } as const;
    const { runner } = await start(off);
    await runner.within((tasks) => {
      tasks.addTask(WorkTasks.prototype.thumbnail, 'a');
      tasks.addTask(WorkTasks.prototype.mail, 'ada');
    });
    await ran.containing('mail to ada');
    expect(ran.all).toEqual(['mail to ada']);
    await expect(queue(`thumbnails-${id}`).getWaitingCount()).resolves.toBe(1);
    held.open();
    await start({ worker: false, queues: { [`thumbnails-${id}`]: {} } });
    await ran.containing('thumbnail of a');
  });

  it('refuses a queue that BullMQ refuses, and a queue without an engine', async () => {
    @Injectable()
    class OddTasks {
      @BackgroundTask('odd', { queue: 'a:b' })
      odd(): void {}
    }
    const engine = bullmqEngine({ ...backend.settings(server.url), queue: name, worker: false });
    for (const [options, message] of [
      [{ engine }, 'Expected the option `queue` of @BackgroundTask("odd") to be a name without a colon'],
      [{}, 'The option `queue` of @BackgroundTask("odd") needs an engine'],
    ] as const) {
      @Module({ imports: [BackgroundTasksModule.forRoot(options)], providers: [OddTasks] })
      class OddModule {}
      await expect(NestFactory.createApplicationContext(OddModule, { logger: false, abortOnError: false })).rejects.toMatchObject({
        code: 'BACKGROUND_TASK_INVALID_OPTION',
        message: expect.stringContaining(message),
      });
    }
  });

  it('says which queues and tasks a worker runs, that it is connected again, and what a shutdown waits for', async () => {
    const { app, logs, runner } = await start();
    expect(logs.of('log')).toEqual([
      `The worker of queue "${name}" runs "mail", "failing", 10 at once`,
      `The worker of queue "thumbnails-${id}" runs "thumbnail", 10 at once`,
    ]);
    await saysOk(runner, true);
    await server.crash();
    await logs.saying(`The worker of queue "${name}": `);
    await server.start();
    await logs.saying(`The worker of queue "${name}" is connected again`);
    await saysOk(runner, true);
    await logs.saying(`Queue "${name}" is connected again`);
    await runner.within((tasks) => void tasks.addTask(WorkTasks.prototype.thumbnail, 'a'));
    await ran.atLeast(1);
    const closed = app.close();
    await logs.saying('Waiting for 1 background task to end, for 30000 ms at most: "thumbnail"');
    held.open();
    await closed;
  });

  it('is well with its server, ill without, and well again', async () => {
    const { runner } = await start();
    await expect(saysOk(runner, true)).resolves.toEqual({ ok: true, engine: { sends: true, works: true } });
    await server.crash();
    await expect(saysOk(runner, false)).resolves.toMatchObject({ ok: false, engine: { sends: false, problem: expect.any(String) } });
    await server.start();
    await expect(saysOk(runner, true)).resolves.toEqual({ ok: true, engine: { sends: true, works: true } });
  });

  it('is ill with a server that hangs, within seconds', async () => {
    const { runner } = await start();
    await saysOk(runner, true);
    server.freeze();
    await expect(runner.health()).resolves.toMatchObject({ ok: false, engine: { sends: false } });
    server.thaw();
    await saysOk(runner, true);
  });

  it('does not speak of running tasks where none are to be run', async () => {
    const { runner } = await start({ worker: false });
    await expect(saysOk(runner, true)).resolves.toEqual({ ok: true, engine: { sends: true } });
  });

  it('keeps ended tasks for as long as it is told', async () => {
    const { runner } = await start({ keep: { completed: 300_000, failed: 3_600_000 } });
    await runner.within((tasks) => void tasks.addTask(WorkTasks.prototype.mail, 'ada'));
    await ran.atLeast(1);
    const ended = queue();
    while ((await ended.getCompletedCount()) === 0) await setImmediate();
    const [job] = await ended.getCompleted();
    expect(job!.opts).toMatchObject({ removeOnComplete: { age: 300 }, removeOnFail: { age: 3_600 } });
  });

  if (backend.name === 'Redis') {
    it('is ill with a wrong password', async () => {
      const admin = new Redis(server.url);
      await admin.call('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', '&*', '+@all');
      const url = new URL(server.url);
      const connection = { host: url.hostname, port: Number(url.port), username: 'app', password: 'wrong' };
      const { runner } = await start({ connection });
      const health = await saysOk(runner, false);
      expect(health.engine).toMatchObject({ sends: false, works: false, problem: expect.stringMatching('WRONGPASS|NOAUTH') });
      admin.disconnect();
    });

    it.each([
      ['scripts', ['+@all', '-@scripting']],
      ['the keys of the queue', ['+@all', 'resetkeys', '~other:*']],
    ])('is ill without a grant for %s, and well with it', async (_, rules) => {
      const admin = new Redis(server.url);
      await admin.call('ACL', 'SETUSER', 'poor', 'on', '>secret', '~*', '&*', ...rules);
      const url = new URL(server.url);
      const connection = { host: url.hostname, port: Number(url.port), username: 'poor', password: 'secret' };
      const { runner } = await start({ connection });
      const health = await saysOk(runner, false);
      expect(health.engine).toMatchObject({ sends: false, problem: expect.stringContaining('NOPERM') });
      await admin.call('ACL', 'SETUSER', 'poor', '~*', '+@all');
      await saysOk(runner, true);
      admin.disconnect();
    });

    it('is ill once the server has refused tasks, such as one whose memory is full', async () => {
      const admin = new Redis(server.url);
      const { runner } = await start({ worker: false }, 500);
      await saysOk(runner, true);
      await admin.config('SET', 'maxmemory', '1');
      await expect(runner.within((tasks) => void tasks.addTask(WorkTasks.prototype.mail, 'ada'))).rejects.toMatchObject({
        code: 'BACKGROUND_TASK_ENGINE',
      });
      const health = await runner.health();
      expect(health.engine).toMatchObject({ sends: false, problem: expect.stringContaining('OOM') });
      await admin.config('SET', 'maxmemory', '0');
      await runner.within((tasks) => void tasks.addTask(WorkTasks.prototype.mail, 'ada'));
      await expect(runner.health()).resolves.toMatchObject({ ok: true });
      admin.disconnect();
    });

    it('takes clients from a function, and closes them', async () => {
      const made: Redis[] = [];
      const connection = (): Redis => {
        const client = new Redis(server.url);
        made.push(client);
        return client;
      };
      const { app, runner } = await start({ connection });
      await runner.within((tasks) => void tasks.addTask(WorkTasks.prototype.mail, 'ada'));
      await ran.atLeast(1);
      // A client for each queue, and one for each worker.
      expect(new Set(made).size).toBe(4);
      await app.close();
      await Promise.all(
        made.map(async (client) => {
          while (client.status !== 'end') await setImmediate();
        }),
      );
    });

    it.each([
      ['no client', () => ({}), 'to return a client of ioredis'],
      ['a client with a keyPrefix', () => new Redis({ lazyConnect: true, keyPrefix: 'app:' }), 'The option `keyPrefix`'],
      ['a client with stringNumbers', () => new Redis({ lazyConnect: true, stringNumbers: true }), 'The option `stringNumbers`'],
      [
        'one client for all',
        (() => {
          const one = new Redis({ lazyConnect: true });
          return () => one;
        })(),
        'the same one again',
      ],
    ])('refuses a function that returns %s', async (_, connection, message) => {
      await expect(start({ connection: connection as () => Redis })).rejects.toMatchObject({
        code: 'BACKGROUND_TASK_INVALID_OPTION',
        message: expect.stringContaining(message),
      });
    });
  }
});

describe('an application without an engine', () => {
  it('is well', async () => {
    const runner = new BackgroundTasksRunner();
    await expect(runner.health()).resolves.toEqual({ ok: true });
  });
});
