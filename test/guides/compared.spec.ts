// README, "Compared": each cell of the table, shown with the real thing.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { getQueueToken } from '@nestjs/bullmq';
import type { LoggerService } from '@nestjs/common';
import { Queue } from 'bullmq';
import type { BackgroundTasksModuleOptions } from 'nestjs-background-tasks';
import { inProcessEngine } from 'nestjs-background-tasks/testing';
import { type TestApp, createApp } from '../support/app.js';
import { notTested, ownBackends } from '../support/backends.js';
import {
  ComparedModule,
  Events,
  Mail,
  MailProcessor,
  MailServer,
  type Delivery,
  type Settings,
  Waiting,
  caller,
} from '../support/compared.js';
import { Recorder } from '../support/recorder.js';
import { type Server, hasRedisServer, startRedis } from '../support/servers.js';

type Column = 'starts' | 'if it fails' | 'at shutdown' | 'in a test' | 'async context' | 'after a crash';

const FLOATING = '`void this.mail.send(to)`';
const IMMEDIATE = '`setImmediate(() => …)`';
const EMITTER = '`@nestjs/event-emitter`';
const BULLMQ = '`@nestjs/bullmq`';
const PACKAGE = 'this package';
const ENGINE = 'this package, with an engine';
type Row = typeof FLOATING | typeof IMMEDIATE | typeof EMITTER | typeof BULLMQ | typeof PACKAGE | typeof ENGINE;

/** The route that sends a mail in this way. */
const ROUTES: Record<Row, string> = {
  [FLOATING]: 'void',
  [IMMEDIATE]: 'setImmediate',
  [EMITTER]: 'emit',
  [BULLMQ]: 'queue',
  [PACKAGE]: 'addTask',
  [ENGINE]: 'engine',
};

const table = tableOf(readFileSync('README.md', 'utf8').split('## Compared')[1]!.split('\n## ')[0]!);
const shown = new Set<string>();

const onRedis = hasRedisServer ? it : it.skip;

/** A test of one cell of the table. */
function cell(row: Row, column: Column, text: string, show: () => Promise<unknown>): void {
  shown.add(`${row}: ${column}`);
  const test = row === BULLMQ || row === ENGINE ? onRedis : it;
  test(`${row}: ${text}`, async () => {
    expect(table.get(row)?.get(column)).toBe(text);
    await show();
  });
}

let mailServer: MailServer;
let mailUrl: string;
let redis: Server;
let name: string;

beforeAll(async () => {
  if (hasRedisServer) redis = await startRedis();
}, 30_000);

afterAll(() => (hasRedisServer ? redis.remove() : undefined));

beforeEach(async () => {
  name = randomUUID();
  mailServer = new MailServer();
  mailUrl = await mailServer.start();
});

const programs: Program[] = [];

afterEach(async () => {
  for (const program of programs.splice(0)) program.kill('SIGKILL');
  await mailServer.stop();
});

function settings(row: Row): Settings {
  const isQueue = hasRedisServer && (row === BULLMQ || row === ENGINE);
  return { mailServer: mailUrl, redis: isQueue ? { url: redis.url, name } : undefined };
}

/** The jobs of a queue, by state. */
async function jobsOf(row: typeof BULLMQ | typeof ENGINE) {
  const connection = { url: redis.url };
  const queue = row === BULLMQ ? new Queue('mails', { connection, prefix: name }) : new Queue(name, { connection });
  const { completed, waiting } = await queue.getJobCounts();
  await queue.close();
  return { completed, waiting };
}

/** Runs once, for several cells. */
function shared<Result>(run: () => Promise<Result>): () => Promise<Result> {
  let result: Promise<Result> | undefined;
  return () => (result ??= run());
}

/** The application, with the providers that tests look at. */
async function start(row: Row, options?: BackgroundTasksModuleOptions): Promise<TestApp & { events: Events; mail: Mail }> {
  const running = await createApp('Express', ComparedModule.with({ ...settings(row), ...(options && { options }) }));
  return Object.assign(running, { events: running.app.get(Events), mail: running.app.get(Mail) });
}

const inProcess = [FLOATING, IMMEDIATE, EMITTER] as const;
const queues = [BULLMQ, ENGINE] as const;

if (!hasRedisServer) it.skip.each(notTested(ownBackends))('%s', () => undefined);

describe('README, "Compared": starts', () => {
  cell(FLOATING, 'starts', 'at once, before the response', () => expectMailBeforeResponse(FLOATING));

  cell(IMMEDIATE, 'starts', 'soon, perhaps before the response', () => expectMailBeforeResponse(IMMEDIATE));

  cell(EMITTER, 'starts', 'inside `emit()`', async () => {
    const { events } = await expectMailBeforeResponse(EMITTER);
    expect(events.all.slice(0, 2)).toEqual(['mail to a', 'emit() has returned']);
  });

  /** The handler answers when the test says so: until then, a mail that has started was not after the response. */
  async function expectMailBeforeResponse(row: Row) {
    const { app, http, events } = await start(row);
    const response = http.post(`/${ROUTES[row]}/a?wait=1`).then(({ status }) => status);
    const [delivery] = await mailServer.to('a');
    expect(events.all).not.toContain('the response is out');
    app.get(Waiting).gate.open();
    await expect(response).resolves.toBe(201);
    delivery!.answer(200);
    return { events };
  }

  cell(PACKAGE, 'starts', 'after the response', async () => {
    const { http, events } = await start(PACKAGE);
    await http.post('/addTask/a').expect(201);
    const [delivery] = await mailServer.to('a');
    delivery!.answer(200);
    expect(events.all).toEqual(['the response is out', 'mail to a']);
  });

  for (const row of queues) {
    cell(row, 'starts', 'when a worker is free', async () => {
      const { http, events } = await start(row);
      await http.post(`/${ROUTES[row]}/a`).expect(201);
      const [first] = await mailServer.to('a');
      await http.post(`/${ROUTES[row]}/b`).expect(201);
      // The worker has one place.
      expect(events.all).not.toContain('mail to b');
      first!.answer(200);
      const [second] = await mailServer.to('b');
      second!.answer(200);
      await events.containing('sent to b');
    });
  }
});

describe('README, "Compared": if it fails', () => {
  cell(FLOATING, 'if it fails', 'unhandled rejection: the process ends', async () => {
    expect(await endOf(`${ROUTES[FLOATING]}/a`)).toEqual({ code: 1, error: 'Error: no mail to a: 500' });
  });

  cell(IMMEDIATE, 'if it fails', 'unhandled rejection or exception: the process ends', async () => {
    const ends = await Promise.all([endOf(`${ROUTES[IMMEDIATE]}/a`), endOf('setImmediate-throws')]);
    expect(ends).toEqual([
      { code: 1, error: 'Error: no mail to a: 500' },
      { code: 1, error: 'Error: thrown in setImmediate()' },
    ]);
  });

  /** How the process ends after this request, whose mail fails. */
  async function endOf(route: string) {
    const program = await Program.start(settings(FLOATING));
    // The process may end before its answer is out.
    await program.post(route).catch(() => undefined);
    if (route.endsWith('/a')) (await mailServer.to('a'))[0]!.answer(500);
    const { code } = await program.exit;
    return { code, error: /^Error: .*$/m.exec(program.errors)?.[0] };
  }

  cell(EMITTER, 'if it fails', 'logged', async () => {
    const logged = new Recorder<unknown>();
    const { http, app } = await start(EMITTER);
    app.useLogger({ error: (message: unknown) => logged.add(message), log() {}, warn() {} } satisfies LoggerService);
    await http.post('/emit/a').expect(201);
    (await mailServer.to('a'))[0]!.answer(500);
    expect(await logged.atLeast(1)).toEqual(['no mail to a: 500']);
  });

  cell(PACKAGE, 'if it fails', 'logged, `onError`; the other tasks run', async () => {
    const reported: unknown[] = [];
    const { http, runner, logs, events } = await start(PACKAGE, { onError: (error) => reported.push((error as Error).message) });
    await http.post('/addTask/a').expect(201);
    (await mailServer.to('a'))[0]!.answer(500);
    await runner.onIdle();
    expect(logs.of('error')).toEqual([expect.stringContaining('failed: no mail to a: 500')]);
    expect(reported).toEqual(['no mail to a: 500']);
    expect(events.all).toContain('the task behind it');
  });

  for (const row of queues) {
    cell(row, 'if it fails', 'retried, if you ask for it', async () => {
      const { http, events } = await start(row);
      await http.post(`/${ROUTES[row]}/once`).expect(201);
      await http.post(`/${ROUTES[row]}/twice?attempts=2`).expect(201);
      (await mailServer.to('once'))[0]!.answer(500);
      (await mailServer.to('twice'))[0]!.answer(500);
      (await mailServer.to('twice', 2))[1]!.answer(200);
      await events.containing('sent to twice');
      expect(mailServer.deliveries.all.map(({ to }) => to)).toEqual(['once', 'twice', 'twice']);
    });
  }
});

describe('README, "Compared": at shutdown', () => {
  for (const row of inProcess) {
    cell(row, 'at shutdown', 'lost', async () => {
      const { events } = await shutdown();
      expect(events).toContain(`mail to ${ROUTES[row]}`);
      expect(events).not.toContain(`sent to ${ROUTES[row]}`);
    });
  }

  cell(PACKAGE, 'at shutdown', 'the process waits', async () => {
    const { events } = await shutdown();
    expect(events.indexOf('sent to addTask')).toBeLessThan(events.indexOf('the database disconnects'));
    expect(events).toContain('the task behind it');
  });

  cell(BULLMQ, 'at shutdown', 'running jobs end after `onModuleDestroy()`; others stay in Redis', async () => {
    const { events, inQueue } = await shutdown();
    expect(events.slice(-3)).toEqual(['the database disconnects', 'the worker of @nestjs/bullmq closes', 'sent to queue']);
    expect(inQueue[BULLMQ]).toEqual({ completed: 1, waiting: 1 });
  });

  cell(ENGINE, 'at shutdown', 'running tasks end, or are requeued; others stay in the queue', async () => {
    const { events, inQueue } = await shutdown();
    expect(events.indexOf('sent to engine')).toBeLessThan(events.indexOf('the database disconnects'));
    expect(inQueue[ENGINE]).toEqual({ completed: 1, waiting: 1 });
  });

  onRedis('this package, with an engine: a task that still runs at the shutdownTimeout is requeued', async () => {
    const { app, http } = await start(ENGINE, { shutdownTimeout: 10 });
    await http.post('/engine/a').expect(201);
    const [delivery] = await mailServer.to('a');
    await app.close();
    delivery!.answer(200);
    const next = await start(ENGINE);
    (await mailServer.to('a', 2))[1]!.answer(200);
    await next.events.containing('sent to a');
  });

  /** SIGTERM while a mail is on its way in each way, and another one waits in each queue. The process ends by itself. */
  const shutdown = shared(async () => {
    const program = await Program.start(settings(ENGINE));
    const deliveries = await program.postAll();
    for (const row of hasRedisServer ? queues : []) await program.post(`${ROUTES[row]}/waiting`);
    program.kill('SIGTERM');
    await program.saying('Waiting for ');
    for (const row of [PACKAGE, ENGINE] as const) deliveries[row]?.answer(200);
    if (hasRedisServer) await program.events.containing('the worker of @nestjs/bullmq closes');
    deliveries[BULLMQ]?.answer(200);
    await expect(program.exit).resolves.toEqual({ code: null, signal: 'SIGTERM' });
    const inQueue = hasRedisServer ? { [BULLMQ]: await jobsOf(BULLMQ), [ENGINE]: await jobsOf(ENGINE) } : {};
    return { events: program.events.all, inQueue };
  });
});

describe('README, "Compared": in a test', () => {
  for (const row of inProcess) {
    cell(row, 'in a test', 'poll until it is done', async () => {
      const { app, http, mail } = await start(row);
      await http.post(`/${ROUTES[row]}/a`).expect(201);
      const [delivery] = await mailServer.to('a');
      // Neither the response nor the end of the application waits for it, and there is nothing else to await.
      await app.close();
      expect(mail.sent).toEqual([]);
      delivery!.answer(200);
      while (mail.sent.length === 0) await setImmediate();
    });
  }

  cell(PACKAGE, 'in a test', '`await runner.onIdle()`', async () => {
    const { http, runner, mail } = await start(PACKAGE);
    await http.post('/addTask/a').expect(201);
    void mailServer.to('a').then(([delivery]) => delivery!.answer(200));
    await runner.onIdle();
    expect(mail.sent).toEqual(['a']);
  });

  cell(BULLMQ, 'in a test', 'needs Redis, or a mock', async () => {
    // BullMQ prints that it cannot connect.
    const printed = jest.spyOn(console, 'error').mockReturnValue();
    await redis.crash();
    const { http, mail } = await start(BULLMQ);
    let isAnswered = false;
    const response = http.post('/queue/a').then(({ status }) => {
      isAnswered = true;
      return status;
    });
    await http.get('/').expect(200, 'alive');
    expect(isAnswered).toBe(false);
    await redis.start();
    await expect(response).resolves.toBe(201);
    (await mailServer.to('a'))[0]!.answer(200);
    while (mail.sent.length === 0) await setImmediate();
    printed.mockRestore();

    const add = jest.fn();
    const module = ComparedModule.with({
      ...settings(BULLMQ),
      redis: { url: 'redis://127.0.0.1:1', name },
      options: { engine: undefined },
    });
    const mocked = await createApp('Express', module, {
      build: (builder) => builder.overrideProvider(getQueueToken('mails')).useValue({ add }).overrideProvider(MailProcessor).useValue({}),
    });
    await mocked.http.post('/queue/b').expect(201);
    expect(add.mock.calls).toEqual([['mail', { to: 'b' }, {}]]);
  });

  cell(ENGINE, 'in a test', '`inProcessEngine()`, no server', async () => {
    const engine = inProcessEngine();
    const { http, mail } = await start(PACKAGE, { engine });
    await http.post('/engine/a?attempts=2').expect(201);
    (await mailServer.to('a'))[0]!.answer(500);
    (await mailServer.to('a', 2))[1]!.answer(200);
    await engine.onIdle();
    expect(mail.sent).toEqual(['a']);
  });
});

describe('README, "Compared": async context', () => {
  for (const row of [...inProcess, PACKAGE] as const) {
    cell(row, 'async context', 'kept', async () => {
      const { http } = await start(row);
      await http.post(`/${ROUTES[row]}/a`).set('caller', 'ada').expect(201);
      const [delivery] = await mailServer.to('a');
      delivery!.answer(200);
      expect(delivery!.caller).toBe('ada');
    });
  }

  cell(BULLMQ, 'async context', 'not kept', () => expectCaller(BULLMQ, 'nobody'));

  cell(ENGINE, 'async context', '`carry()`', async () => {
    await expectCaller(ENGINE, 'nobody');
    await expectCaller(ENGINE, 'ada', {
      carry: () => caller.getStore(),
      around: (task, next) => caller.run(task.carried as string, next),
    });
  });

  async function expectCaller(row: Row, expected: string, options?: BackgroundTasksModuleOptions) {
    const { http, app, events } = await start(row, options);
    const to = randomUUID();
    await http.post(`/${ROUTES[row]}/${to}`).set('caller', 'ada').expect(201);
    const [delivery] = await mailServer.to(to);
    delivery!.answer(200);
    await events.containing(`sent to ${to}`);
    expect(delivery!.caller).toBe(expected);
    await app.close();
  }
});

describe('README, "Compared": after a crash', () => {
  for (const row of [...inProcess, PACKAGE] as const) {
    cell(row, 'after a crash', 'lost', async () => {
      const deliveries = await crash();
      expect(deliveries.filter(({ to }) => to === ROUTES[row])).toHaveLength(1);
    });
  }

  for (const row of queues) {
    cell(row, 'after a crash', 'run again', async () => {
      const deliveries = await crash();
      expect(deliveries.filter(({ to }) => to === ROUTES[row])).toHaveLength(2);
    });
  }

  /** SIGKILL while a mail is on its way in each way; then the next process, until it has run what it found. */
  const crash = shared(async () => {
    const program = await Program.start(settings(ENGINE));
    await program.postAll();
    program.kill('SIGKILL');
    await program.exit;
    const next = await Program.start(settings(ENGINE));
    for (const row of hasRedisServer ? queues : []) {
      (await mailServer.to(ROUTES[row], 2))[1]!.answer(200);
      await next.events.containing(`sent to ${ROUTES[row]}`);
    }
    return mailServer.deliveries.all;
  });
});

/** The program, in a process of its own. */
class Program {
  readonly events = new Recorder<string>();
  readonly exit: Promise<{ code: number | null; signal: string | null }>;
  errors = '';
  readonly #lines = new Recorder<string>();
  readonly #process: ChildProcess;
  #url = '';

  static async start(settings: Settings): Promise<Program> {
    const program = new Program(settings);
    programs.push(program);
    await program.#ready;
    return program;
  }

  readonly #ready: Promise<void>;

  private constructor(settings: Settings) {
    const support = fileURLToPath(new URL('../support/', import.meta.url));
    this.#process = spawn(
      process.execPath,
      ['--import', `${support}typescript.js`, `${support}compared.app.ts`, JSON.stringify(settings)],
      {
        // Jest's own flags are not for the program.
        env: { ...process.env, NODE_OPTIONS: '' },
      },
    );
    this.exit = once(this.#process, 'close').then(([code, signal]) => ({ code, signal }));
    this.#process.stderr!.on('data', (data) => (this.errors += String(data)));
    this.#ready = new Promise((resolve, reject) => {
      createInterface(this.#process.stdout!).on('line', (line) => {
        if (!line.startsWith('{')) return this.#lines.add(line);
        const { url, event }: { url?: string; event?: string } = JSON.parse(line);
        if (event) this.events.add(event);
        if (!url) return;
        this.#url = url;
        resolve();
      });
      void this.exit.then(() => reject(new Error(`The program ended:\n${this.errors}`)));
    });
  }

  async post(route: string): Promise<void> {
    const { status } = await fetch(`${this.#url}/${route}`, { method: 'POST', headers: { connection: 'close' } });
    expect(status).toBe(201);
  }

  /** Sends a mail in each way, to the name of its route. Resolves once all of them are on their way. */
  async postAll(): Promise<Partial<Record<Row, Delivery>>> {
    const rows = (Object.keys(ROUTES) as Row[]).filter((row) => hasRedisServer || row !== BULLMQ);
    const deliveries = rows.map(async (row) => {
      await this.post(`${ROUTES[row]}/${ROUTES[row]}`);
      return [row, (await mailServer.to(ROUTES[row]))[0]!] as const;
    });
    return Object.fromEntries(await Promise.all(deliveries));
  }

  /** Resolves once the program has logged a line with this text. */
  async saying(text: string): Promise<void> {
    while (!this.#lines.all.some((line) => line.includes(text))) await this.#lines.atLeast(this.#lines.all.length + 1);
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }
}

/** The cells of the first table of a text, by row and column. */
function tableOf(text: string): Map<string, Map<string, string>> {
  const lines = text.split('\n').filter((line) => line.startsWith('|'));
  const [header, , ...rows] = lines.map((line) =>
    line
      .split('|')
      .slice(1, -1)
      .map((part) => part.trim()),
  );
  return new Map(rows.map(([row, ...cells]) => [row!, new Map(cells.map((text, n) => [header![n + 1]!, text]))]));
}

it('README, "Compared": has no other cells', () => {
  const cells = [...table].flatMap(([row, columns]) => [...columns.keys()].map((column) => `${row}: ${column}`));
  expect(cells.toSorted()).toEqual([...shown].toSorted());
});
