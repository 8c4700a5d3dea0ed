// Public API: the options `around` and `carry`, and `currentTask()`. Guarantee 5: what they throw fails their own task alone.
import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, Param, Scope } from '@nestjs/common';
import {
  BackgroundTask,
  BackgroundTasks,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  type BackgroundTasksRootOptions,
  type EngineEntry,
  type EngineHost,
  currentTask,
} from 'nestjs-background-tasks';
import { of } from 'rxjs';
import { Observable } from 'rxjs';
import { createApp, isNode24, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

type Around = NonNullable<BackgroundTasksRootOptions['around']>;

let log: string[];
let reported: string[];

beforeEach(() => {
  log = [];
  reported = [];
});

/** Stands in for the scope of an error tracker, or the store of nestjs-cls. */
const scope = new AsyncLocalStorage<string>();

const functions: Record<string, () => unknown> = {
  sync: () => log.push(`sync in ${scope.getStore()}`),
  async: async () => {
    await setImmediate();
    log.push(`async in ${scope.getStore()}`);
  },
  observable: async () => {
    await setImmediate();
    return new Observable<void>((subscriber) => {
      log.push(`observable in ${scope.getStore()}`);
      subscriber.complete();
    });
  },
  throws: () => {
    throw new Error('the task fails');
  },
  rejects: async () => {
    await setImmediate();
    throw new Error('the task fails');
  },
};

@Controller()
class TaskController {
  @Get(':tasks')
  get(@Param('tasks') names: string, @BackgroundTasks() tasks: BackgroundTasks) {
    for (const name of names.split(',')) tasks.addTask({ name }, functions[name]!);
  }
}

function moduleWith(options: BackgroundTasksRootOptions) {
  @Module({
    imports: [
      BackgroundTasksModule.forRoot({
        onError: (error, task) => reported.push(`${task.name}: ${(error as Error).message}`),
        ...options,
      }),
    ],
    controllers: [TaskController],
  })
  class TaskModule {}
  return TaskModule;
}

describe.each(platforms)('the option around on %s', (platform) => {
  async function runTasks(names: string, around: Around, options: BackgroundTasksRootOptions = {}) {
    const { http, runner } = await createApp(platform, moduleWith({ around, ...options }));
    await http.get(`/${names}`).expect(200);
    await runner.onIdle();
  }

  it('is called around each run, with the task, and may set a context', async () => {
    await runTasks('sync,async,observable', async (task, next) => {
      log.push(`before ${task.name}`);
      await scope.run(`the scope of ${task.name}`, next);
      log.push(`after ${task.name}`);
    });
    expect(log).toEqual([
      'before sync',
      'sync in the scope of sync',
      'after sync',
      'before async',
      'async in the scope of async',
      'after async',
      'before observable',
      'observable in the scope of observable',
      'after observable',
    ]);
  });

  it.each<[string, Around]>([
    [
      'throws',
      () => {
        throw new Error('around fails');
      },
    ],
    ['rejects', () => Promise.reject(new Error('around fails'))],
    [
      'rejects after the task',
      async (_, next) => {
        await next();
        throw new Error('around fails');
      },
    ],
    ['turns the failure of the task into its own', (_, next) => next().then(() => Promise.reject(new Error('around fails')))],
  ])('fails its task, and no other, with what it %s', async (_how, around) => {
    await runTasks('async,sync', (task, next) => (task.name === 'async' ? around(task, next) : next()));
    expect(reported).toEqual(['async: around fails']);
    expect(log).toContain('sync in undefined');
  });

  it.each<[string, Around]>([
    ['returns it', (_, next) => next()],
    ['catches it', (_, next) => next().catch(() => undefined)],
    ['does not wait for it', (_, next) => void next()],
  ])('cannot hide what the task fails with: it %s', async (_how, around) => {
    await runTasks('throws,rejects', around);
    expect(reported).toEqual(['throws: the task fails', 'rejects: the task fails']);
  });

  it('does not end the process with what it has not waited for yet', async () => {
    await runTasks('rejects', async (_, next) => {
      const end = next();
      for (let turn = 0; turn < 5; turn++) await setImmediate();
      await end;
    });
    expect(reported).toEqual(['rejects: the task fails']);
  });

  it('does not end the process by a call of next() that comes too late, and that nobody waits for', async () => {
    let late: (() => Promise<unknown>) | undefined;
    await runTasks('sync', (_, next) => void (late = next));
    void late!();
    for (let turn = 0; turn < 5; turn++) await setImmediate();
    expect(log).toEqual([]);
  });

  it('may go on after the task, which ends when both have', async () => {
    await runTasks('async,sync', async (task, next) => {
      void next();
      if (task.name === 'async') for (let turn = 0; turn < 5; turn++) await setImmediate();
      log.push(`after ${task.name}`);
    });
    expect(log).toEqual(['async in undefined', 'after async', 'sync in undefined', 'after sync']);
  });

  it('that throws while the task runs fails the task with its error, once the task has ended', async () => {
    await runTasks('async,rejects,sync', (_, next) => {
      void next();
      throw new Error('around fails');
    });
    expect(log).toEqual(['async in undefined', 'sync in undefined']);
    expect(reported).toEqual(['async: around fails', 'rejects: around fails', 'sync: around fails']);
  });

  it('has the task run once, however often it calls next()', async () => {
    await runTasks('sync', async (_, next) => {
      await Promise.all([next(), next()]);
      await next();
    });
    expect(log).toEqual(['sync in undefined']);
  });

  it('gets the result of the task from next(), and can make it a failure', async () => {
    const results: unknown[] = [];
    const around = async (task: BackgroundTask, next: () => Promise<unknown>): Promise<void> => {
      const result = await next();
      results.push(result);
      if (result instanceof Error) throw result;
    };
    const list = [
      () => 'sync',
      async () => 'async',
      () => of('observable'),
      () => new Error('returned'),
      async () => new Error('resolved'),
    ];
    const failures: string[] = [];
    @Module({ imports: [BackgroundTasksModule.forRoot({ around, onError: (error) => failures.push((error as Error).message) })] })
    class ResultModule {}
    const { runner } = await createApp('Express', ResultModule);
    for (const func of list) await runner.addTask(func).ended;
    await runner.onIdle();
    expect(results).toEqual(['sync', 'async', undefined, new Error('returned'), new Error('resolved')]);
    expect(failures).toEqual(['returned', 'resolved']);
  });

  it('that does not call next() fails the task, and calls it in vain later', async () => {
    let late: (() => Promise<unknown>) | undefined;
    await runTasks('sync', (_, next) => void (late = next));
    expect(reported).toEqual([
      'sync: Background task "sync" was not run: the option `around` of BackgroundTasksModule ended without calling `next()`. Return `next()` from it',
    ]);
    await expect(late!()).rejects.toMatchObject({ code: 'BACKGROUND_TASK_INVALID_TASK' });
    expect(log).toEqual([]);
  });

  it('shares the timeout of the task, and starts nothing after it', async () => {
    const opened = gate();
    let late: Promise<unknown> | undefined;
    await runTasks(
      'sync',
      async (task, next) => {
        await new Promise((resolve) => task.signal.addEventListener('abort', resolve));
        late = next();
        opened.open();
        await late;
      },
      { timeout: 5 },
    );
    await opened.opened;
    await expect(late).rejects.toMatchObject({ code: 'BACKGROUND_TASK_TIMEOUT' });
    expect([log, reported]).toEqual([[], [expect.stringContaining('did not end within its timeout of 5 ms')]]);
  });
});

describe('currentTask()', () => {
  const seen = new Map<string, unknown>();

  /** Many decorators do this: they wait before they call the method. */
  function Wrapped(): MethodDecorator {
    return (_target, _key, descriptor: PropertyDescriptor) => {
      const method = descriptor.value as (...args: unknown[]) => unknown;
      descriptor.value = async function (this: unknown, ...args: unknown[]) {
        await setImmediate();
        return method.apply(this, args);
      };
    };
  }

  @Injectable()
  class NamedTasks {
    @BackgroundTask('named')
    @Wrapped()
    async named(): Promise<void> {
      seen.set('named, wrapped', currentTask()?.name);
      await setImmediate();
      seen.set('named, after an await', currentTask()?.name);
    }
  }

  @Controller()
  class CurrentController {
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(async function plain() {
        seen.set('plain', currentTask()?.name);
        await setImmediate();
        seen.set('plain, after an await', currentTask()?.name);
        tasks.addTask({ name: 'added by a task' }, () => void seen.set('added by a task', currentTask()?.name));
        const byHand = new BackgroundTask({ name: 'by hand' }, async () => {
          await setImmediate();
          seen.set('by hand', currentTask()?.name);
        });
        await byHand.run();
        seen.set('plain, after that', currentTask()?.name);
      });
      seen.set('handler', currentTask()?.name);
    }
  }

  it.each<[string, BackgroundTasksRootOptions, (new () => object)[]]>([
    ['in an application with @BackgroundTask() methods', {}, [NamedTasks]],
    ['under Scope.DEFAULT', { scope: Scope.DEFAULT }, []],
  ])('holds to the end of the task %s', async (_where, options, providers) => {
    seen.clear();
    @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [CurrentController], providers })
    class CurrentModule {}
    const { http, runner } = await createApp('Express', CurrentModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(Object.fromEntries(seen)).toEqual({
      handler: undefined,
      plain: 'plain',
      'plain, after an await': 'plain',
      'added by a task': 'added by a task',
      'by hand': 'by hand',
      'plain, after that': 'plain',
    });
  });

  it('holds behind a decorator that wraps a @BackgroundTask() method', async () => {
    seen.clear();
    @Controller()
    class NamedController {
      constructor(private readonly tasks: NamedTasks) {}
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(this.tasks.named);
      }
    }
    @Module({ imports: [BackgroundTasksModule], controllers: [NamedController], providers: [NamedTasks] })
    class NamedModule {}
    const { http, runner } = await createApp('Express', NamedModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(Object.fromEntries(seen)).toEqual({ 'named, wrapped': 'named', 'named, after an await': 'named' });
  });

  it('holds to the end elsewhere on Node 24 and later, and up to the first await before', async () => {
    seen.clear();
    @Module({ imports: [BackgroundTasksModule], controllers: [CurrentController] })
    class CurrentModule {}
    const { http, runner } = await createApp('Express', CurrentModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(Object.fromEntries(seen)).toMatchObject({ plain: 'plain', 'added by a task': 'added by a task' });
    expect(seen.get('plain, after an await')).toBe(isNode24 ? 'plain' : undefined);
  });
});

describe('the option carry', () => {
  const tenant = new AsyncLocalStorage<string>();

  @Injectable()
  class MailTasks {
    @BackgroundTask('mail', { attempts: 2 })
    async mail(to: string): Promise<void> {
      await setImmediate();
      log.push(`${to} of ${scope.getStore()}, ${currentTask()?.name}, ${JSON.stringify(currentTask()?.carried)}`);
    }
  }

  @Controller()
  class MailController {
    constructor(private readonly tasks: MailTasks) {}
    @Get(':to')
    get(@Param('to') to: string, @BackgroundTasks() tasks: BackgroundTasks) {
      tenant.run(`tenant of ${to}`, () => tasks.addTask(this.tasks.mail, to));
      tasks.addTask({ runOn: 'always' }, () => log.push('plain'));
    }
  }

  let taken: EngineEntry[];
  let worker: EngineHost;

  const engine: BackgroundTasksEngine = {
    enqueue: async (entries) => void taken.push(...entries),
    work: (host) => void (worker = host),
    close: async () => undefined,
  };

  beforeEach(() => {
    taken = [];
  });

  const appWith = (carry: () => unknown, flushTimeout?: number) => {
    @Module({
      imports: [
        BackgroundTasksModule.forRoot({
          engine,
          carry,
          flushTimeout,
          around: (task, next) => (task.carried ? scope.run((task.carried as { tenant: string }).tenant, next) : next()),
          onError: (error, task) => reported.push(`${task.name}: ${(error as Error).message}`),
        }),
      ],
      controllers: [MailController],
      providers: [MailTasks],
    })
    class MailModule {}
    return createApp('Express', MailModule);
  };

  it.each([
    ['JSON', () => ({ tenant: tenant.getStore() })],
    ['a promise of it', async () => ({ tenant: tenant.getStore() })],
  ])('returns %s, taken where the task is added, which around has in the worker', async (_, carry) => {
    const { http, runner } = await appWith(carry);
    await http.get('/ada').expect(200);
    await runner.onIdle();
    expect(taken).toMatchObject([{ name: 'mail', carried: '{"tenant":"tenant of ada"}' }]);
    const [{ id, name, provider, args, timeout, trace, carried }] = taken as [EngineEntry];
    await worker.run({ id, name, provider, args, timeout, trace, carried, attempt: 1 }, new AbortController().signal);
    expect(log).toEqual(['plain', 'ada of tenant of ada, mail, {"tenant":"tenant of ada"}']);
  });

  it.each<[string, () => unknown, string]>([
    [
      'throws',
      () => {
        throw new Error('no tenant');
      },
      'no tenant',
    ],
    ['rejects with', () => Promise.reject(new Error('no tenant')), 'no tenant'],
    ['returns, and is not JSON,', () => ({ tenant: new Map() }), 'Expected carry().tenant of background task "mail" to survive JSON'],
  ])('fails the request with what it %s', async (_, carry, message) => {
    const { http, runner } = await appWith(carry);
    await http.get('/ada').expect(500);
    await runner.onIdle();
    expect(taken).toEqual([]);
    expect(reported).toEqual([expect.stringContaining(`mail: ${message}`)]);
    expect(log).toEqual(['plain']);
  });

  it('that does not settle is awaited as long as an engine', async () => {
    const { http, runner } = await appWith(() => new Promise(() => {}), 30);
    await http.get('/ada').expect(503);
    await runner.onIdle();
    expect(taken).toEqual([]);
    expect(reported).toEqual([expect.stringContaining('"mail" did not get to the engine within the flushTimeout of 30 ms')]);
  });

  it('may have nothing to carry', async () => {
    const { http, runner } = await appWith(() => undefined);
    await http.get('/ada').expect(200);
    await runner.onIdle();
    expect(taken).toMatchObject([{ name: 'mail', carried: undefined }]);
  });

  it('in a worker, currentTask() holds to the end, without an option', async () => {
    @Module({ imports: [BackgroundTasksModule.forRoot({ engine })], controllers: [MailController], providers: [MailTasks] })
    class MailModule {}
    await createApp('Express', MailModule);
    const job = { id: 'a job', name: 'mail', provider: 'MailTasks', args: '["ada"]', timeout: undefined, trace: undefined, attempt: 1 };
    await worker.run(job, new AbortController().signal);
    expect(log).toEqual(['ada of undefined, mail, undefined']);
  });
});
