// Guarantee 8: a shutdown waits for requests in flight and for tasks, before providers disconnect their databases, up to `shutdownTimeout`.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, type OnModuleDestroy, type OnModuleInit, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  BackgroundTasks,
  BackgroundTasksError,
  BackgroundTasksModule,
  BackgroundTasksRunner,
  BackgroundTasksShutdownError,
  currentTask,
} from 'nestjs-background-tasks';
import { RecordedLogs, adapterOf, createApp, isNest12, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

describe.each(platforms)('a process under load on %s', (platform) => {
  const databases = ['root', 'feature', 'global', 'last'];
  let server: Server | undefined;

  afterEach(() => server?.stop());

  it.each(['SIGTERM', 'SIGINT', 'app.close()'] as const)(
    '%s: every task of every request that was answered runs before the first database disconnects',
    async (how) => {
      server = new Server(platform);
      const url = await server.next('url');

      const slow = get(`${url}/slow/late`);
      await server.next('began');
      const load = new Load(url);
      await load.answers(20);
      if (how === 'app.close()') await get(`${url}/close`, 'POST');
      else server.process.kill(how);
      await server.next('closing');
      await load.answers(20);
      await load.stop();
      await get(`${url}/open`, 'POST');
      await slow;
      const exit = await server.exit;

      const answered = [...load.answered, 'late'].sort();
      expect(server.all('ran').sort()).toEqual(answered);
      expect(server.events.filter(({ ran }) => ran).map((event) => event.with)).toEqual(answered.map(() => databases));
      expect(server.all('disconnected').sort()).toEqual([...databases].sort());
      expect(exit).toEqual(how === 'app.close()' ? { code: 0, signal: null } : { code: null, signal: how });
      expect(server.errors).toBe('');
    },
    60_000,
  );
});

describe.each(platforms)('at the shutdownTimeout on %s', (platform) => {
  it('signals fire, each unfinished task is reported by name, and the application closes', async () => {
    const reported: string[] = [];
    const aborted: unknown[] = [];
    const stuck = gate();

    @Controller()
    class StuckController {
      @Post()
      post(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ name: 'stuck' }, () => {
          const signal = currentTask()!.signal;
          signal.addEventListener('abort', () => aborted.push(signal.reason));
          return stuck.opened;
        });
        tasks.addTask({ name: 'behind it' }, () => {
          throw new Error('started');
        });
      }
    }

    @Module({
      imports: [
        BackgroundTasksModule.forRoot({
          shutdownTimeout: 20,
          onError: (error, task) => void reported.push(`${task.name}: ${codeOf(error)}`),
        }),
      ],
      controllers: [StuckController],
    })
    class StuckModule {}

    const { app, http, runner, logs } = await createApp(platform, StuckModule);
    await http.post('/').expect(201);
    await app.close();

    expect(logs.of('log')).toEqual(['Waiting for 2 background tasks to end, for 20 ms at most: "stuck", "behind it"']);
    expect(logs.of('error')).toEqual([
      'Background task "stuck" was aborted: the application shuts down, and its shutdownTimeout of 20 ms is over',
      'Background task "behind it" never started: the application shuts down, and its shutdownTimeout of 20 ms is over',
    ]);
    expect(reported).toEqual(['stuck: BACKGROUND_TASK_SHUTDOWN', 'behind it: BACKGROUND_TASK_SHUTDOWN']);
    expect(aborted.map(codeOf)).toEqual(['BACKGROUND_TASK_SHUTDOWN']);
    await runner.onIdle();
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
  });

  it('a task that heeds its signal ends, and onError is through, before the databases disconnect', async () => {
    const log: string[] = [];

    @Controller()
    class HeedingController {
      @Post()
      post(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(async () => {
          const { signal } = currentTask()!;
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
          await setImmediate();
          log.push('state saved');
        });
      }
    }

    @Module({
      imports: [
        BackgroundTasksModule.forRoot({
          shutdownTimeout: 0,
          async onError() {
            await setImmediate();
            log.push('onError');
          },
        }),
      ],
      controllers: [HeedingController],
    })
    class HeedingModule implements OnModuleDestroy {
      onModuleDestroy() {
        log.push('disconnected');
      }
    }

    const { app, http } = await createApp(platform, HeedingModule);
    await http.post('/').expect(201);
    await app.close();
    expect(log.splice(0, 2).sort()).toEqual(['onError', 'state saved']);
    expect(log).toEqual(['disconnected']);
  });

  it('a handler that is still at work does not hold the drain up any longer, and can add nothing any more', async () => {
    const slow = gate();
    const arrived = gate();
    const past = gate();
    let refusal: unknown;

    @Controller()
    class SlowController {
      @Get()
      async get(@BackgroundTasks() tasks: BackgroundTasks) {
        arrived.open();
        await slow.opened;
        try {
          tasks.addTask(function tooLate() {});
        } catch (error) {
          refusal = error;
          throw error;
        }
      }
    }

    // Nest destroys the modules after this package's in turn: this one tells that the drain is over.
    @Module({ imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 20 })], controllers: [SlowController] })
    class SlowModule implements OnModuleDestroy {
      onModuleDestroy() {
        past.open();
      }
    }

    const { app, http } = await createApp(platform, SlowModule);
    const answer = http.get('/').then((response) => response);
    await arrived.opened;
    const closed = app.close();
    await past.opened;
    slow.open();
    expect(await answer).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });
    expect(refusal).toBeInstanceOf(BackgroundTasksShutdownError);
    expect(refusal).toMatchObject({
      code: 'BACKGROUND_TASK_SHUTDOWN',
      message: 'Background task "tooLate" was refused: the application has shut down',
    });
    await closed;
  });
});

describe.each(platforms)('closing on %s', (platform) => {
  const ran: string[] = [];

  @Controller()
  class TaskController {
    @Post()
    post(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(async () => {
        await setImmediate();
        ran.push('task');
      });
    }
  }

  afterEach(() => void ran.splice(0));

  it('a second close, and one at the same time, end as well', async () => {
    @Module({ imports: [BackgroundTasksModule], controllers: [TaskController] })
    class AppModule {}

    const { app, http, logs } = await createApp(platform, AppModule);
    await http.post('/').expect(201);
    await Promise.all([app.close(), app.close()]);
    await app.close();
    expect(ran).toEqual(['task']);
    expect(logs.lines).toMatchObject([{ level: 'log' }]);
  });

  it('the port is free for the next application although nobody awaits the end of this one, where there is nothing to wait for', async () => {
    @Module({ imports: [BackgroundTasksModule], controllers: [TaskController] })
    class AppModule {}

    const { app, http, runner, url } = await createApp(platform, AppModule);
    await http.post('/').expect(201);
    await runner.onIdle();
    const closed = app.close();
    const next = await createApp(platform, AppModule, { port: new URL(url).port });
    await next.http.post('/').expect(201);
    await Promise.all([closed, next.runner.onIdle()]);
    expect(ran).toEqual(['task', 'task']);
  });

  it("an application's hook that throws comes after the tasks, and close() ends as it would without this package", async () => {
    let thrown = false;

    @Injectable()
    class Broken implements OnModuleDestroy {
      onModuleDestroy() {
        if (thrown) return;
        thrown = true;
        ran.push('hook');
        throw new Error('cannot disconnect');
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [TaskController], providers: [Broken] })
    class AppModule {}

    const { app, http, logs } = await createApp(platform, AppModule);
    await http.post('/').expect(201);
    // Nest 11 rejects, Nest 12 logs.
    await app.close().catch((error: Error) => expect(error.message).toBe('cannot disconnect'));
    expect(ran).toEqual(['task', 'hook']);
    expect(logs.lines).toMatchObject([{ level: 'log' }]);
  });

  it('an application that never listened closes', async () => {
    @Module({ imports: [BackgroundTasksModule] })
    class AppModule {}

    const logger = new RecordedLogs();
    const created = await NestFactory.create(AppModule, adapterOf(platform), { logger });
    await created.close();
    const initialised = await NestFactory.create(AppModule, adapterOf(platform), { logger });
    await initialised.init();
    await initialised.close();
    expect(logger.lines).toEqual([]);
  });

  it('an application that is closed while it boots closes', async () => {
    const booting = gate();
    const boot = gate();

    @Injectable()
    class SlowToBoot implements OnModuleInit {
      onModuleInit() {
        booting.open();
        return boot.opened;
      }
    }

    @Module({ imports: [BackgroundTasksModule], providers: [SlowToBoot] })
    class AppModule {}

    const logger = new RecordedLogs();
    const app = await NestFactory.create(AppModule, adapterOf(platform), { logger, abortOnError: false });
    const initialised = app.init();
    await booting.opened;
    const closed = app.close();
    boot.open();
    await Promise.all([initialised, closed]);
    await app.close();
    expect(logger.lines).toEqual([]);
  });
});

it('an application context, which has no HTTP, closes', async () => {
  @Module({ imports: [BackgroundTasksModule] })
  class AppModule {}

  const logger = new RecordedLogs();
  const context = await NestFactory.createApplicationContext(AppModule, { logger });
  expect(context.get(BackgroundTasksRunner)).toMatchObject({ activeCount: 0, pendingCount: 0 });
  await context.close();
  expect(logger.lines).toEqual([]);
});

describe.each(platforms)('addTask after the end on %s', (platform) => {
  let kept: BackgroundTasks;

  @Controller()
  class KeepingController {
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(() => {});
      kept = tasks;
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [KeepingController] })
  class KeepingModule {}

  it('is logged, and not thrown, where nobody waits: on the list of a request that was answered', async () => {
    const { app, http, runner, logs } = await createApp(platform, KeepingModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    await app.close();
    kept.addTask(function lateTask() {});
    expect(logs.of('error')).toEqual(['Background task "lateTask" was refused: the application has shut down']);
    expect(runner.pendingCount).toBe(0);
  });
});

/** A run of shutdown.app.ts. */
class Server {
  readonly process: ChildProcess;
  readonly events: Record<string, unknown>[] = [];
  readonly exit: Promise<{ code: number | null; signal: string | null }>;
  errors = '';
  readonly #waiting = new Map<string, () => void>();

  constructor(platform: string) {
    const support = fileURLToPath(new URL('../support/', import.meta.url));
    this.process = spawn(process.execPath, ['--import', `${support}typescript.js`, `${support}shutdown.app.ts`, platform], {
      // Jest's own flags are not for the program.
      env: { ...process.env, NODE_OPTIONS: '', NEST: isNest12 ? '12' : '11' },
    });
    this.exit = once(this.process, 'close').then(([code, signal]) => ({ code, signal }));
    this.process.stderr!.on('data', (data) => (this.errors += String(data)));
    createInterface(this.process.stdout!).on('line', (line) => {
      const event: Record<string, unknown> = JSON.parse(line);
      this.events.push(event);
      for (const key of Object.keys(event)) this.#waiting.get(key)?.();
    });
  }

  /** Everything that was said under a key. */
  all(key: string): string[] {
    return this.events.filter((event) => key in event).map((event) => String(event[key]));
  }

  /** The first line under a key. */
  async next(key: string): Promise<string> {
    const said = new Promise<void>((resolve) => this.#waiting.set(key, resolve));
    if (this.all(key).length === 0) await Promise.race([said, this.exit]);
    const [first] = this.all(key);
    if (first === undefined) throw new Error(`The program ended without saying "${key}":\n${this.errors}`);
    return first;
  }

  stop(): void {
    this.process.kill('SIGKILL');
  }
}

/** Keep-alive clients that send one request after the other. */
class Load {
  readonly answered: string[] = [];
  #stopping = false;
  #awaited: { count: number; reached: () => void } | undefined;
  readonly #clients: Promise<unknown>;

  constructor(url: string) {
    this.#clients = Promise.all(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((name) => this.#client(url, name)));
  }

  /** Resolves after so many more answers. */
  answers(count: number): Promise<unknown> {
    const reached = new Promise<void>((resolve) => (this.#awaited = { count: this.answered.length + count, reached: resolve }));
    return Promise.race([reached, this.#clients]);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#clients;
  }

  async #client(url: string, name: string): Promise<void> {
    for (let request = 1; !this.#stopping; request++) {
      this.answered.push(await get(`${url}/work/${name}${request}`));
      if (this.#awaited && this.answered.length >= this.#awaited.count) this.#awaited.reached();
    }
  }
}

async function get(url: string, method = 'GET'): Promise<string> {
  const response = await fetch(url, { method });
  expect(response.ok).toBe(true);
  return response.text();
}

function codeOf(error: unknown): string {
  return error instanceof BackgroundTasksError ? error.code : 'none of ours';
}
