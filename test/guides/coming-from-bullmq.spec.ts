// Guide: docs/coming-from-bullmq.md, each row of its table and each of its claims, with both in one application.
import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { BullModule, InjectFlowProducer, InjectQueue, OnWorkerEvent, Processor, WorkerHost, getQueueToken } from '@nestjs/bullmq';
import { Controller, Injectable, Module, type ModuleMetadata, type OnModuleDestroy, Post, type Type } from '@nestjs/common';
import { type FlowProducer, type Job, Queue } from 'bullmq';
import { Redis } from 'ioredis';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  currentTask,
} from 'nestjs-background-tasks';
import { type BullmqEngineOptions, bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { inProcessEngine } from 'nestjs-background-tasks/testing';
import { createApp } from '../support/app.js';
import { notTested, ownBackends } from '../support/backends.js';
import { gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';
import { type Server, hasRedisServer, startRedis } from '../support/servers.js';

const guide = readFileSync('docs/coming-from-bullmq.md', 'utf8');
const rows = new Map(
  guide
    .split('\n')
    .filter((line) => line.startsWith('| ') && !line.startsWith('| @nestjs/bullmq ') && !line.startsWith('| --'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map(([, before, here]) => [before!, here!]),
);
const claims = new Set(Array.from(guide.matchAll(/^- \*\*(.*?)\*\*/gm), ([, claim]) => claim!));
const shown = new Set<string>();

const test = hasRedisServer ? it : it.skip;

/** A test of a row of the table, with what it says in its two columns. */
function row(before: string, here: string, show: () => Promise<unknown>): void {
  shown.add(before);
  test(`${before} → ${here}`, async () => {
    expect(rows.get(before)).toBe(here);
    await show();
  });
}

/** A test of a claim of "What is different". */
function claim(text: string, show: () => Promise<unknown>): void {
  shown.add(text);
  test(text, show);
}

/** What a handler has at hand. */
interface Hands {
  readonly queue: Queue;
  readonly tasks: BackgroundTasks;
  readonly mail: MailTasks;
}

let redis: Server;
/** A client of the server, past both. */
let client: Redis;
let handle: (hands: Hands) => unknown;
/** What jobs and tasks do, with the address. */
let work: (to: string, job?: Job) => unknown;
let ran: Recorder<string>;
let failed: Recorder<string>;

@Injectable()
class MailTasks {
  @BackgroundTask('welcome-mail')
  async sendWelcomeMail(to: string): Promise<unknown> {
    ran.add(`task for ${to}`);
    return work(to);
  }

  @BackgroundTask('outgoing-mail', { queue: 'outgoing', attempts: 3, backoff: 10 })
  sendOutgoing(to: string): void {
    ran.add(`outgoing task for ${to}`);
  }
}

@Processor('mails')
class MailProcessor extends WorkerHost {
  async process(job: Job<{ to: string }>): Promise<unknown> {
    switch (job.name) {
      case 'welcome-mail':
        ran.add(`job for ${job.data.to}`);
        return work(job.data.to, job);
      default:
        throw new Error(`unknown job ${job.name}`);
    }
  }

  /** Without a listener, BullMQ prints the errors of a connection that the test cuts. */
  @OnWorkerEvent('error')
  onError(): void {}

  @OnWorkerEvent('failed')
  onFailed(job: Job, error: Error): void {
    failed.add(`${job.name}: ${error.message}`);
  }
}

@Processor('mails', { concurrency: 10 })
class WideProcessor extends WorkerHost {
  async process(job: Job<{ to: string }>): Promise<unknown> {
    ran.add(`job for ${job.data.to}`);
    return work(job.data.to, job);
  }
}

@Controller()
class SignUpController {
  constructor(
    @InjectQueue('mails') private readonly queue: Queue,
    private readonly mail: MailTasks,
  ) {}

  @Post()
  signUp(@BackgroundTasks() tasks: BackgroundTasks) {
    return handle({ queue: this.queue, tasks, mail: this.mail });
  }
}

if (!hasRedisServer) it.skip.each(notTested(ownBackends))('%s', () => undefined);

beforeAll(async () => {
  if (!hasRedisServer) return;
  redis = await startRedis();
  client = new Redis(redis.url);
}, 30_000);

afterAll(async () => {
  if (!hasRedisServer) return;
  client.disconnect();
  await redis.remove();
});

beforeEach(async () => {
  ran = new Recorder();
  failed = new Recorder();
  work = () => undefined;
  if (hasRedisServer) await client.flushall();
});

interface Options extends Pick<ModuleMetadata, 'controllers' | 'imports' | 'providers'> {
  connection?: object;
  /** `false` for none. */
  processor?: Type | false;
  /** The version of the application before the method. */
  lacksTasks?: boolean;
  engine?: Partial<BullmqEngineOptions>;
  options?: BackgroundTasksModuleOptions;
}

/** An application with both. */
async function start({
  connection = { url: redis.url },
  processor = MailProcessor,
  lacksTasks = false,
  engine = {},
  options = {},
  providers = [],
  controllers = [],
  imports = [],
}: Options = {}) {
  @Module({
    imports: [
      BullModule.forRoot({ connection }),
      BullModule.registerQueue({ name: 'mails' }),
      BackgroundTasksModule.forRootAsync({
        useFactory: () => ({
          engine: bullmqEngine({ connection, ...engine }),
          onError: (error, task) => failed.add(`${task.name}: ${(error as Error).message}`),
          ...options,
        }),
      }),
      ...imports,
    ],
    controllers: [...(lacksTasks ? [] : [SignUpController]), ...controllers],
    providers: [...(lacksTasks ? [] : [MailTasks]), ...(processor ? [processor] : []), ...providers],
  })
  class AppModule {}

  const running = await createApp('Express', AppModule);
  const queue: Queue = running.app.get(getQueueToken('mails'), { strict: false });
  queue.on('error', () => undefined);
  return {
    ...running,
    runner: running.runner,
    queue,
    /** A request whose handler is this function. */
    request: (handler: typeof handle, status = 201) => {
      handle = handler;
      return running.http.post('/').expect(status);
    },
  };
}

/** A queue past both. */
async function withQueue<Result>(name: string, use: (queue: Queue) => Promise<Result>): Promise<Result> {
  const queue = new Queue(name, { connection: { url: redis.url } });
  try {
    return await use(queue);
  } finally {
    await queue.close();
  }
}

const addBoth = async ({ queue, tasks, mail }: Hands): Promise<void> => {
  await queue.add('welcome-mail', { to: 'ada' });
  tasks.addTask(mail.sendWelcomeMail, 'ada');
};

describe('docs/coming-from-bullmq.md, call by call', () => {
  row(
    '`BullModule.forRoot({ connection })`',
    '`BackgroundTasksModule.forRoot({ engine: bullmqEngine({ connection }) })`; for a client, `connection: () => new Redis(…)`',
    async () => {
      const { hostname: host, port } = new URL(redis.url);
      for (const connection of [{ host, port: Number(port) }, { url: redis.url }]) {
        const { request, app } = await start({ connection });
        await request(addBoth);
        await ran.containing('job for ada', 'task for ada');
        ran.all.length = 0;
        await app.close();
      }
      expect(() => bullmqEngine({ connection: client })).toThrow('a function that returns a new client of ioredis, and not a client');
      const { request } = await start({ engine: { connection: () => new Redis(redis.url) } });
      await request(addBoth);
      await ran.containing('job for ada', 'task for ada');
    },
  );

  row(
    "`BullModule.registerQueue({ name: 'mails' })`",
    "nothing: there is a default queue. Another one: `@BackgroundTask('welcome-mail', { queue: 'outgoing' })`",
    async () => {
      const { request } = await start({ engine: { worker: false } });
      await request(({ tasks, mail }) => {
        tasks.addTask(mail.sendWelcomeMail, 'ada');
        tasks.addTask(mail.sendOutgoing, 'ada');
      });
      await expect(withQueue('background-tasks', (queue) => queue.getWaiting())).resolves.toMatchObject([{ name: 'welcome-mail' }]);
      await expect(withQueue('outgoing', (queue) => queue.getWaiting())).resolves.toMatchObject([{ name: 'outgoing-mail' }]);
    },
  );

  row(
    "`@Processor('mails')`, `extends WorkerHost`, a `switch (job.name)`",
    "`@BackgroundTask('welcome-mail')` on a method of any singleton provider",
    async () => {
      const { request } = await start();
      await request(addBoth);
      await ran.containing('job for ada', 'task for ada');
    },
  );

  row("`@InjectQueue('mails') queue: Queue`", '`@BackgroundTasks() tasks: BackgroundTasks`, or the injected list', async () => {
    @Injectable()
    class SignUps {
      constructor(
        private readonly tasks: BackgroundTasks,
        private readonly mail: MailTasks,
      ) {}

      welcome(to: string): void {
        this.tasks.addTask(this.mail.sendWelcomeMail, to);
      }
    }

    @Controller('injected')
    class InjectedController {
      constructor(private readonly signUps: SignUps) {}

      @Post()
      post() {
        this.signUps.welcome('bob');
      }
    }

    const { request, http } = await start({ controllers: [InjectedController], providers: [SignUps], engine: { worker: false } });
    await request(({ tasks, mail }) => void tasks.addTask(mail.sendWelcomeMail, 'ada'));
    await http.post('/injected').expect(201);
    const jobs = await withQueue('background-tasks', (queue) => queue.getWaiting());
    expect(jobs.map(({ data }: Job<{ args: string }>) => data.args).toSorted()).toEqual(['["ada"]', '["bob"]']);
  });

  row(
    "`await queue.add('welcome-mail', { to })`",
    '`tasks.addTask(this.mail.sendWelcomeMail, to)`: not awaited, and the arguments are checked by the compiler',
    async () => {
      const { request } = await start();
      let returned: unknown;
      await request(async ({ queue, tasks, mail }) => {
        await queue.add('welcome-mial', { too: 1 });
        returned = tasks.addTask(mail.sendWelcomeMail, 'ada');
        // @ts-expect-error -- a number is no address
        tasks.addTask({ delay: 60_000 }, mail.sendWelcomeMail, 1);
      });
      expect(returned).not.toHaveProperty('then');
      await ran.containing('task for ada');
      await expect(failed.atLeast(1)).resolves.toEqual(['welcome-mial: unknown job welcome-mial']);
    },
  );

  row(
    '`queue.add(name, data, { attempts, backoff, delay, priority })`',
    '`addTask({ attempts, backoff, delay, priority }, method, ...args)`, or defaults in the decorator',
    async () => {
      const { request, queue } = await start();
      const options = { attempts: 5, backoff: { type: 'exponential', delay: 1_000 }, delay: 86_400_000, priority: 2 } as const;
      let ids: (string | undefined)[] = [];
      await request(async ({ queue: mails, tasks, mail }) => {
        const job = await mails.add('welcome-mail', { to: 'ada' }, options);
        const task = tasks.addTask(options, mail.sendWelcomeMail, 'ada');
        ids = [job.id, task.id, tasks.addTask({ delay: 1_000 }, mail.sendOutgoing, 'ada').id];
      });
      const optionsOf = async (of: Queue, id: string | undefined): Promise<object> => (await of.getJob(id!))!.opts;
      await expect(optionsOf(queue, ids[0])).resolves.toMatchObject(options);
      await expect(withQueue('background-tasks', (own) => optionsOf(own, ids[1]))).resolves.toMatchObject(options);
      await expect(withQueue('outgoing', (own) => optionsOf(own, ids[2]))).resolves.toMatchObject({
        attempts: 3,
        backoff: { type: 'fixed', delay: 10 },
        delay: 1_000,
      });
    },
  );

  row('`queue.addBulk([…])`', 'nothing: the tasks of a request, and of concurrent requests, share one call', async () => {
    const { request, http, runner } = await start({
      // Redis need not answer within the usual time for a command, or the command would be sent again.
      engine: { worker: false, connection: { url: redis.url, commandTimeout: 30_000 } },
    });
    const addBulk = jest.spyOn(Queue.prototype, 'addBulk');
    const handled = new Recorder<string>();
    const addTwo = ({ tasks, mail }: Hands): void => {
      for (const to of ['ada', 'bob']) tasks.addTask(mail.sendWelcomeMail, to);
      handled.add('request');
    };
    try {
      await request(addTwo);
      redis.freeze();
      const first = http.post('/').then(({ status }) => status);
      while (addBulk.mock.calls.length < 2) await setImmediate();
      const others = [1, 2, 3].map(() => http.post('/').then(({ status }) => status));
      await handled.atLeast(5);
      redis.thaw();
      await expect(Promise.all([first, ...others])).resolves.toEqual([201, 201, 201, 201]);
      await runner.onIdle();
      expect(addBulk.mock.calls.map(([jobs]) => jobs.length)).toEqual([2, 2, 6]);
    } finally {
      redis.thaw();
      addBulk.mockRestore();
    }
  });

  row('`{ deduplication: { id, ttl } }`', 'the same option', async () => {
    const { request, queue } = await start({ processor: false, engine: { worker: false } });
    await request(async ({ queue: mails, tasks, mail }) => {
      for (const to of ['ada', 'bob']) {
        const deduplication = { id: 'welcome', ttl: 60_000 };
        await mails.add('welcome-mail', { to }, { deduplication });
        tasks.addTask({ deduplication }, mail.sendWelcomeMail, to);
      }
    });
    await expect(queue.getWaitingCount()).resolves.toBe(1);
    await expect(withQueue('background-tasks', (own) => own.getWaitingCount())).resolves.toBe(1);
  });

  row('`job.data`', 'the parameters of the method', async () => {
    const seen = new Recorder<unknown>();
    work = (to, job) => seen.add(job ? job.data : to);
    const { request } = await start();
    await request(addBoth);
    expect(await seen.atLeast(2)).toEqual(expect.arrayContaining([{ to: 'ada' }, 'ada']));
  });

  row(
    '`job.id`, `job.attemptsMade`',
    '`currentTask()?.id`, `currentTask()?.attempt`, which is 1 in the first run, where `attemptsMade` is 0',
    async () => {
      const seen = new Recorder<unknown>();
      work = (_to, job) => {
        if (job) seen.add({ job: job.id, attemptsMade: job.attemptsMade });
        else seen.add({ task: currentTask()!.id, attempt: currentTask()!.attempt });
        throw new Error('no mail');
      };
      const { request } = await start();
      let ids: { job?: string | undefined; task?: string } = {};
      await request(async ({ queue, tasks, mail }) => {
        const { id: job } = await queue.add('welcome-mail', { to: 'ada' }, { attempts: 2 });
        ids = { job, task: tasks.addTask({ attempts: 2 }, mail.sendWelcomeMail, 'ada').id };
      });
      const { job, task } = ids;
      await failed.atLeast(4);
      expect(seen.all).toHaveLength(4);
      expect(seen.all).toEqual(
        expect.arrayContaining([
          { job, attemptsMade: 0 },
          { job, attemptsMade: 1 },
          { task, attempt: 1 },
          { task, attempt: 2 },
        ]),
      );
    },
  );

  row('`await job.updateProgress(50)`', '`await currentTask()?.updateProgress(50)`', async () => {
    const updated = new Recorder<string>();
    const held = gate();
    work = async (_to, job) => {
      await (job ?? currentTask())!.updateProgress(50);
      updated.add(job ? 'job' : 'task');
      await held.opened;
    };
    const { request, runner, queue } = await start();
    const ids = await bothIds(request);
    await updated.atLeast(2);
    await expect(queue.getJob(ids.job)).resolves.toMatchObject({ progress: 50 });
    await expect(runner.state(ids.task)).resolves.toMatchObject({ progress: 50 });
    held.open();
  });

  row(
    '`await (await queue.getJob(id))?.getState()`',
    '`(await runner.state(id))?.state`: `waiting` for all that wait, `running` for `active`',
    async () => {
      const held = gate();
      work = () => held.opened;
      const { request, runner, queue } = await start();
      const ids = await bothIds(request);
      await ran.atLeast(2);
      const states = async ({ job, task }: typeof ids) => [await (await queue.getJob(job))?.getState(), (await runner.state(task))?.state];
      await expect(states(ids)).resolves.toEqual(['active', 'running']);
      await expect(states(await bothIds(request, { delay: 60_000 }))).resolves.toEqual(['delayed', 'waiting']);
      await expect(states({ job: 'none', task: 'none' })).resolves.toEqual([undefined, undefined]);
      held.open();
      while ((await states(ids)).some((state) => state !== 'completed')) await setImmediate();
    },
  );

  row("`@OnWorkerEvent('failed')`", '`onError(error, task)` of the module, likewise after each failed attempt', async () => {
    work = () => {
      throw new Error('no mail');
    };
    const { request } = await start();
    await request(({ queue }) => queue.add('welcome-mail', { to: 'ada' }, { attempts: 2 }).then(() => undefined));
    await expect(failed.atLeast(2)).resolves.toEqual(['welcome-mail: no mail', 'welcome-mail: no mail']);
    await request(({ tasks, mail }) => void tasks.addTask({ attempts: 2 }, mail.sendWelcomeMail, 'ada'));
    await expect(failed.atLeast(4)).resolves.toEqual(Array.from({ length: 4 }, () => 'welcome-mail: no mail'));
  });

  row(
    "`@Processor('mails', { concurrency: 10 })`",
    '`bullmqEngine({ connection, worker: { concurrency: 10 } })`, or for one queue in `queues`. The default is 10, not 1',
    async () => {
      const addEleven = async ({ queue, tasks, mail }: Hands): Promise<void> => {
        for (let n = 0; n < 11; n++) {
          await queue.add('welcome-mail', { to: `${n}` });
          tasks.addTask(mail.sendWelcomeMail, `${n}`);
        }
      };
      const counts = async (options: Options): Promise<object> => {
        const held = gate();
        work = () => held.opened;
        ran = new Recorder();
        await client.flushall();
        const { request, app } = await start(options);
        await request(addEleven);
        const running = (name: string) => withQueue(name, (queue) => queue.getJobCounts('active', 'waiting'));
        const isFull = async () => {
          const both = { jobs: await running('mails'), tasks: await running('background-tasks') };
          return both.jobs.active! >= expectedJobs && both.tasks.active! >= expectedTasks ? both : undefined;
        };
        const expectedJobs = options.processor ? 10 : 1;
        const expectedTasks = options.engine?.queues ? 2 : 10;
        let both: Awaited<ReturnType<typeof isFull>>;
        while (!(both = await isFull())) await setImmediate();
        held.open();
        await ran.atLeast(22);
        await app.close();
        return { jobs: both.jobs.active, tasks: both.tasks.active };
      };
      await expect(counts({ processor: WideProcessor, engine: { worker: { concurrency: 10 } } })).resolves.toEqual({ jobs: 10, tasks: 10 });
      await expect(counts({ engine: { queues: { 'background-tasks': { concurrency: 2 } } } })).resolves.toEqual({ jobs: 1, tasks: 2 });
      await expect(counts({})).resolves.toEqual({ jobs: 1, tasks: 10 });
    },
  );

  row('a process without processors', '`bullmqEngine({ connection, worker: false })`', async () => {
    const { request, queue } = await start({ processor: false, engine: { worker: false } });
    await request(addBoth);
    await expect(queue.getWaitingCount()).resolves.toBe(1);
    await expect(withQueue('background-tasks', (own) => own.getWaitingCount())).resolves.toBe(1);
    await start();
    await ran.containing('job for ada', 'task for ada');
  });

  row('a mock of the queue in tests', '`inProcessEngine()` from `nestjs-background-tasks/testing`', async () => {
    const engine = inProcessEngine();
    const { request } = await start({ options: { engine } });
    await request(({ tasks, mail }) => void tasks.addTask({ attempts: 2 }, mail.sendWelcomeMail, 'ada'));
    await engine.onIdle();
    expect(ran.all).toEqual(['task for ada']);
    expect(engine.tasks).toMatchObject([{ name: 'welcome-mail', args: ['ada'], state: 'completed' }]);
    await expect(withQueue('background-tasks', (own) => own.getJobCounts('waiting', 'completed'))).resolves.toEqual({
      waiting: 0,
      completed: 0,
    });
  });

  row(
    'job schedulers (repeated jobs), `FlowProducer`, `limiter`, `jobId`',
    'not here: keep @nestjs/bullmq for them. Both may run in one application',
    async () => {
      @Injectable()
      class Flows {
        constructor(@InjectFlowProducer('flows') readonly producer: FlowProducer) {}
      }

      work = (to) => ran.add(`worked for ${to}`);
      const { request, app, queue } = await start({ imports: [BullModule.registerFlowProducer({ name: 'flows' })], providers: [Flows] });
      await queue.upsertJobScheduler('daily', { every: 86_400_000 }, { name: 'welcome-mail', data: { to: 'every day' } });
      const job = (to: string) => ({ name: 'welcome-mail', queueName: 'mails', data: { to } });
      await app.get(Flows).producer.add({ ...job('parent'), children: [job('child')] });
      await request(({ tasks, mail }) => void tasks.addTask(mail.sendWelcomeMail, 'ada'));
      await ran.containing('job for every day', 'job for child', 'job for parent', 'task for ada');

      expect(() => bullmqEngine({ connection: redis.url, worker: { limiter: { max: 1, duration: 1_000 } } as object })).toThrow('limiter');
      let thrown: unknown;
      await request(({ tasks, mail }) => {
        try {
          tasks.addTask({ jobId: 'mine' } as object, mail.sendWelcomeMail, 'ada');
        } catch (error) {
          thrown = error;
        }
      });
      expect(thrown).toMatchObject({ code: 'BACKGROUND_TASK_INVALID_OPTION', message: expect.stringContaining('jobId') });
    },
  );
});

describe('docs/coming-from-bullmq.md, what is different', () => {
  claim('A request that fails sends nothing.', async () => {
    const { request } = await start();
    await request(async (hands) => {
      await addBoth(hands);
      hands.tasks.addTask({ runOn: 'always' }, hands.mail.sendWelcomeMail, 'always');
      throw new Error('no user');
    }, 500);
    await ran.containing('job for ada', 'task for always');
    expect(ran.all).not.toContain('task for ada');
    await expect(withQueue('background-tasks', (own) => own.getJobCountByTypes('waiting', 'active', 'delayed'))).resolves.toBe(0);
  });

  claim('The response waits for the queue, and not in your code.', async () => {
    const { http, request } = await start({ options: { flushTimeout: 2_000 } });
    const returned: string[] = [];
    const addOne = ({ tasks, mail }: Hands): void => {
      tasks.addTask(mail.sendWelcomeMail, 'ada');
      tasks.addTask({ flush: 'after-response' }, mail.sendWelcomeMail, 'late');
      returned.push('handler');
    };
    await request(addOne);
    // The queue has it: a worker may have it by now, too.
    await ran.containing('task for ada', 'task for late');
    redis.freeze();
    try {
      await http.post('/').expect(503);
      expect(returned).toEqual(['handler', 'handler']);
      await request(({ tasks, mail }) => void tasks.addTask({ flush: 'after-response' }, mail.sendWelcomeMail, 'later'));
    } finally {
      redis.thaw();
    }
  });

  claim('Redis being away does not hang a request.', async () => {
    const { http, request, url } = await start({ options: { flushTimeout: 2_000 } });
    await request(addBoth);
    await ran.containing('job for ada', 'task for ada');
    await redis.crash();
    let isAnswered = false;
    const called = gate();
    try {
      handle = async ({ queue }) => {
        called.open();
        await queue.add('welcome-mail', { to: 'bob' });
      };
      const hanging = fetch(url, { method: 'POST' }).then(({ status }) => {
        isAnswered = true;
        return status;
      });
      await called.opened;
      handle = ({ tasks, mail }) => void tasks.addTask(mail.sendWelcomeMail, 'bob');
      await http.post('/').expect(503);
      expect(isAnswered).toBe(false);
      await redis.start();
      await expect(hanging).resolves.toBe(201);
    } finally {
      if (!isAnswered) await redis.start();
    }
  });

  claim('A rolling deploy fails no jobs.', async () => {
    const old = await start({ lacksTasks: true });
    await old.queue.add('next-version', { to: 'ada' });
    await failed.containing('next-version: unknown job next-version');
    const id = await withQueue('background-tasks', async (queue) => {
      const job = await queue.add('welcome-mail', { provider: 'MailTasks', args: '["ada"]' });
      while ((await job.getState()) !== 'delayed') await setImmediate();
      return job.id!;
    });
    await old.app.close();
    const { runner } = await start();
    let attempt: number | undefined;
    work = () => (attempt = currentTask()?.attempt);
    await ran.containing('task for ada');
    while ((await runner.state(id))?.state !== 'completed') await setImmediate();
    expect(attempt).toBe(1);
    expect(failed.all).toHaveLength(1);
  });

  claim('A shutdown waits while your providers still work.', async () => {
    const destroying = gate();
    const held = gate();

    @Injectable()
    class Database implements OnModuleDestroy {
      async onModuleDestroy(): Promise<void> {
        ran.add('the database disconnects');
        destroying.open();
        await held.opened;
      }
    }

    const { app, request } = await start({ providers: [Database] });
    await request(addBoth);
    await ran.containing('job for ada', 'task for ada');
    const closed = app.close();
    await destroying.opened;
    await withQueue('background-tasks', (queue) => queue.add('welcome-mail', { provider: 'MailTasks', args: '["bob"]' }));
    await withQueue('mails', (queue) => queue.add('welcome-mail', { to: 'bob' }));
    await ran.containing('job for bob');
    held.open();
    await closed;
    expect(ran.all.slice(2)).toEqual(['the database disconnects', 'job for bob']);
    await expect(withQueue('background-tasks', (queue) => queue.getWaitingCount())).resolves.toBe(1);
  });

  claim('Arguments have to be JSON.', async () => {
    const { request, queue } = await start({ processor: false });
    let refused: unknown;
    await request(async ({ queue: mails, tasks, mail }) => {
      await mails.add('welcome-mail', { to: new Date(0) });
      try {
        tasks.addTask(mail.sendWelcomeMail, new Date(0) as unknown as string);
      } catch (error) {
        refused = (error as Error).message;
      }
    });
    await expect(queue.getWaiting()).resolves.toMatchObject([{ data: { to: '1970-01-01T00:00:00.000Z' } }]);
    expect(refused).toMatch(/^Expected args\[0\] .* got an instance of Date: pass `date\.toISOString\(\)`/);
  });

  claim('Ended tasks are removed.', async () => {
    const { request, queue } = await start({ processor: false, engine: { worker: false } });
    const ids = await bothIds(request);
    const { opts } = (await queue.getJob(ids.job))!;
    expect(opts).not.toHaveProperty('removeOnComplete');
    expect(opts).not.toHaveProperty('removeOnFail');
    await expect(withQueue('background-tasks', (own) => own.getJob(ids.task))).resolves.toMatchObject({
      opts: { removeOnComplete: { age: 600 }, removeOnFail: { age: 7 * 24 * 3_600 } },
    });
  });

  claim('One list may hold both kinds of task.', async () => {
    const { request, runner } = await start({ engine: { worker: false } });
    await request(({ tasks, mail }) => {
      tasks.addTask((to) => ran.add(`function for ${to}`), 'ada');
      tasks.addTask(mail.sendWelcomeMail, 'ada');
    });
    await runner.onIdle();
    expect(ran.all).toEqual(['function for ada']);
    await expect(withQueue('background-tasks', (queue) => queue.getWaitingCount())).resolves.toBe(1);
  });

  claim('There are no results.', async () => {
    work = () => 'sent';
    const { request, queue, runner } = await start();
    const ids = await bothIds(request);
    while ((await runner.state(ids.task))?.state !== 'completed') await setImmediate();
    while (!(await (await queue.getJob(ids.job))!.isCompleted())) await setImmediate();
    await expect(queue.getJob(ids.job)).resolves.toMatchObject({ returnvalue: 'sent' });
    await expect(withQueue('background-tasks', (own) => own.getJob(ids.task))).resolves.toMatchObject({ returnvalue: null });
  });
});

describe('docs/coming-from-bullmq.md, move one queue at a time', () => {
  test('the old processor runs the jobs from before, the new method the tasks from now on, side by side', async () => {
    await withQueue('mails', (queue) => queue.add('welcome-mail', { to: 'from before' }));
    const { request } = await start();
    await request(({ tasks, mail }) => void tasks.addTask(mail.sendWelcomeMail, 'from now on'));
    await ran.containing('job for from before', 'task for from now on');
    expect(ran.all).toHaveLength(2);
    expect(failed.all).toEqual([]);
  });

  test('in a queue that both share, the processor gets tasks, and the worker of this package gets jobs', async () => {
    const old = await start({ engine: { queue: 'mails', worker: false } });
    await old.request(({ tasks, mail }) => void tasks.addTask(mail.sendWelcomeMail, 'ada'));
    await ran.containing('job for undefined');
    await old.app.close();
    await start({ processor: false, engine: { queue: 'mails' } });
    await withQueue('mails', (queue) => queue.add('welcome-mail', { to: 'ada' }));
    await failed.atLeast(1);
    expect(failed.all).toEqual([expect.stringMatching(/^welcome-mail: .*not/)]);
    expect(ran.all).toHaveLength(1);
  });
});

/** The ids of a job and a task that one request adds. */
async function bothIds(request: Awaited<ReturnType<typeof start>>['request'], options: { delay?: number } = {}) {
  let ids = { job: '', task: '' };
  await request(async ({ queue, tasks, mail }) => {
    const { id } = await queue.add('welcome-mail', { to: 'ada' }, options);
    ids = { job: id!, task: tasks.addTask(options, mail.sendWelcomeMail, 'ada').id };
  });
  return ids;
}

it('docs/coming-from-bullmq.md has no other rows and claims', () => {
  expect([...rows.keys(), ...claims].toSorted()).toEqual([...shown].toSorted());
});
