// Guarantee 5: a failing task is logged and handed to `onError`, and its siblings still run. Guarantee 9: arguments are never logged.
import { once } from 'node:events';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, type LoggerService, Module } from '@nestjs/common';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  BackgroundTasksTimeoutError,
  currentTask,
} from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

// Jest fails a test for every unhandledRejection and uncaughtException. Node raises them once the microtasks are through.
afterEach(() => setImmediate());

class UnprintableError extends Error {
  override get message(): string {
    throw new Error('no message');
  }
  override get stack(): string {
    throw new Error('no stack');
  }
}

class StacklessError extends Error {
  override get stack(): string {
    throw new Error('no stack');
  }
}

const unprintable = {
  [inspect.custom]() {
    throw new Error('no text');
  },
};

const never = new Promise<void>(() => {});

/** How a task fails, and what is logged of it. */
const failures: { how: string; task: () => unknown; logged: string; timeout?: number }[] = [
  { how: 'throws', task: () => fail(new Error('sync')), logged: 'failed: sync' },
  { how: 'rejects', task: () => Promise.reject(new Error('async')), logged: 'failed: async' },
  { how: 'throws undefined', task: () => fail(undefined), logged: 'failed: undefined' },
  { how: 'rejects with undefined', task: () => Promise.reject(undefined), logged: 'failed: undefined' },
  { how: 'throws a string', task: () => fail('text'), logged: "failed: 'text'" },
  { how: 'throws an error whose stack throws', task: () => fail(new StacklessError('no trace')), logged: 'failed: no trace' },
  {
    how: 'throws an error that cannot be read',
    task: () => fail(new UnprintableError()),
    logged: 'failed: an error that cannot be printed',
  },
  { how: 'throws a value that cannot be printed', task: () => fail(unprintable), logged: 'failed: an error that cannot be printed' },
  {
    how: 'throws an error whose message is no text',
    task: () => fail(Object.assign(new Error(), { message: Symbol('odd') })),
    logged: 'failed: Symbol(odd)',
  },
  {
    how: "throws Node's error for a host that refuses on all its addresses",
    task: () => {
      throw Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' });
    },
    logged: 'failed: ECONNREFUSED',
  },
  {
    how: 'returns a thenable whose then throws',
    task: () => ({
      then() {
        throw new Error('then');
      },
    }),
    logged: 'failed: then',
  },
  {
    how: 'returns a thenable that rejects twice, and resolves',
    task: () => ({
      then(resolve: () => void, reject: (error: Error) => void) {
        reject(new Error('first'));
        reject(new Error('second'));
        resolve();
      },
    }),
    logged: 'failed: first',
  },
  {
    how: 'returns a thenable that never settles',
    task: () => ({ then() {} }),
    timeout: 5,
    logged:
      'did not end within its timeout of 5 ms and was aborted; pass `currentTask()?.signal` to the calls that it awaits, or raise `timeout`',
  },
];

describe.each(platforms)('a task that fails on %s', (platform) => {
  /** Serves `GET /`, whose task fails between two that do not. */
  async function serve(options: BackgroundTasksModuleOptions, task: () => unknown, timeout?: number, logger?: LoggerService) {
    const siblings: string[] = [];

    @Controller()
    class FailingController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(() => void siblings.push('before'));
        tasks.addTask({ name: 'failing', timeout }, task);
        tasks.addTask(() => void siblings.push('after'));
        return 'fine';
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [FailingController] })
    class FailingModule {}

    const app = await createApp(platform, FailingModule, { configure: (nest) => logger && nest.useLogger(logger) });
    return { ...app, siblings };
  }

  it.each(failures)('$how: it is logged and handed to onError once, and its siblings run', async ({ task, timeout, logged }) => {
    const handed: BackgroundTask[] = [];
    const { http, runner, logs, siblings } = await serve({ onError: (_, failed) => void handed.push(failed) }, task, timeout);
    await http.get('/').expect(200, 'fine');
    await runner.onIdle();
    expect(logs.lines.map(({ level, message }) => ({ level, message }))).toEqual([
      { level: 'error', message: `Background task "failing" ${logged}` },
    ]);
    expect(handed.map(({ name }) => name)).toEqual(['failing']);
    expect(siblings).toEqual(['before', 'after']);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
    await http.get('/').expect(200, 'fine');
  });

  it('is logged with what caused it, and with the errors that it gathers', async () => {
    // The output is bounded, and the paths of a stack may be long.
    const withoutFrames = (each: Error): Error => Object.assign(each, { stack: String(each) });
    const cause = withoutFrames(new Error('connection refused', { cause: 'no route' }));
    const error = withoutFrames(new AggregateError([withoutFrames(new RangeError('one'))], 'many', { cause }));
    const { http, runner, logs } = await serve({}, () => fail(error));
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(logs.lines[0]?.stack?.split('\n')).toEqual([
      'AggregateError: many',
      '  [cause]: Error: connection refused',
      "  [cause]: 'no route'",
      '  [cause]: RangeError: one',
    ]);
  });

  it('is logged with its stack, and onError has the very error', async () => {
    const error = new Error('the reason');
    const handed: unknown[] = [];
    const { http, runner, logs } = await serve({ onError: (failure) => void handed.push(failure) }, () => fail(error));
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(logs.lines).toEqual([{ level: 'error', message: 'Background task "failing" failed: the reason', stack: error.stack }]);
    expect(handed[0]).toBe(error);
  });

  it.each([
    ['throws', () => fail(new Error('broken reporter'))],
    ['rejects', () => Promise.reject(new Error('broken reporter'))],
  ])('is logged together with the failure of onError, which %s, and the siblings run', async (_, onError) => {
    const { http, runner, logs, siblings } = await serve({ onError }, () => fail(new Error('the task')));
    await http.get('/').expect(200, 'fine');
    await runner.onIdle();
    expect(logs.of('error')).toEqual([
      'Background task "failing" failed: the task',
      'onError failed for background task "failing": broken reporter',
    ]);
    expect(siblings).toEqual(['before', 'after']);
  });

  it('onIdle() waits for an onError that takes its time', async () => {
    const asked = gate();
    const reporting = gate();
    const order: string[] = [];
    const onError = async () => {
      asked.open();
      await reporting.opened;
      order.push('reported');
    };
    const { http, runner } = await serve({ onError }, () => fail(new Error('the task')));
    await http.get('/').expect(200);
    const idle = runner.onIdle().then(() => order.push('idle'));
    await asked.opened;
    await setImmediate();
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
    reporting.open();
    await idle;
    expect(order).toEqual(['reported', 'idle']);
  });

  it('when the logger throws, onError is called and the siblings run', async () => {
    const handed: unknown[] = [];
    const logger: LoggerService = { log() {}, warn: fail, error: fail, debug: fail };
    const { http, runner, siblings } = await serve({ onError: (error) => void handed.push(error) }, () => fail('oh'), undefined, logger);
    await http.get('/').expect(200, 'fine');
    await runner.onIdle();
    expect(handed).toEqual(['oh']);
    expect(siblings).toEqual(['before', 'after']);
  });
});

describe.each(platforms)('a timeout on %s', (platform) => {
  /** The end of the aborted function. */
  const ends = [
    {
      what: 'completes',
      end: () => {},
      logged: { level: 'warn', message: 'Background task "slow" completed after it had been aborted' },
    },
    {
      what: 'fails',
      end: () => fail(new Error('too late')),
      logged: { level: 'error', message: 'Background task "slow" failed after it had been aborted: too late' },
    },
    {
      what: 'fails with undefined',
      end: () => fail(undefined),
      logged: { level: 'error', message: 'Background task "slow" failed after it had been aborted: undefined' },
    },
  ];

  it.each(ends)('aborts the task and goes on, and the log says that its function $what in the end', async ({ end, logged }) => {
    const function_ = gate();
    const nextTask = gate();
    const ended = gate();
    const events: string[] = [];
    const errors: unknown[] = [];
    let signal: AbortSignal | undefined;

    @Controller()
    class SlowController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ name: 'slow', timeout: 5 }, async () => {
          signal = currentTask()?.signal;
          signal?.addEventListener('abort', () => events.push('signal'));
          await function_.opened;
          ended.open();
          end();
        });
        tasks.addTask(() => {
          events.push('next task');
          nextTask.open();
        });
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ onError: (error) => void errors.push(error) })], controllers: [SlowController] })
    class SlowModule {}

    const { http, runner, logs } = await createApp(platform, SlowModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    await nextTask.opened;

    expect(events).toEqual(['signal', 'next task']);
    expect(errors).toEqual([expect.any(BackgroundTasksTimeoutError)]);
    expect(errors[0]).toMatchObject({ code: 'BACKGROUND_TASK_TIMEOUT', task: 'slow', timeout: 5 });
    expect(signal).toMatchObject({ aborted: true, reason: errors[0] });
    expect(logs.of('error')).toEqual([(errors[0] as Error).message]);

    function_.open();
    await ended.opened;
    await setImmediate();
    const { level, message } = logs.lines[1]!;
    expect({ level, message }).toEqual(logged);
    // It is an observation, and no second failure.
    expect(errors).toHaveLength(1);
    expect(logs.lines).toHaveLength(2);
  });

  it.each([
    ['throws', (signal: AbortSignal) => once(signal, 'abort').then(() => signal.throwIfAborted())],
    ["of Node's throws", (signal: AbortSignal) => setTimeout(60_000, undefined, { signal })],
  ])('is logged as a failure once when the function %s at its signal', async (_, watch) => {
    @Controller()
    class ObedientController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ name: 'obedient', timeout: 5 }, () => watch(currentTask()!.signal));
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [ObedientController] })
    class ObedientModule {}

    const { http, runner, logs } = await createApp(platform, ObedientModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    await setImmediate();
    expect(logs.of('error')).toEqual([expect.stringContaining('Background task "obedient" did not end within its timeout of 5 ms')]);
    expect(logs.of('debug')).toEqual(['Background task "obedient" stopped when its signal fired']);
  });

  it("is the module's, unless the task has its own; a task that ends in time hears nothing", async () => {
    const outcomes: unknown[] = [];
    const work = gate();
    let patient: BackgroundTask | undefined;

    @Controller()
    class TimeoutController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ name: "module's" }, () => never);
        tasks.addTask({ name: "task's", timeout: 6 }, () => never);
        tasks.addTask({ name: 'patient', timeout: 60_000 }, () => {
          patient = currentTask();
          work.open();
          return work.opened;
        });
      }
    }

    const onError = (error: unknown): unknown => outcomes.push(error instanceof BackgroundTasksTimeoutError && [error.task, error.timeout]);

    @Module({ imports: [BackgroundTasksModule.forRoot({ timeout: 5, onError })], controllers: [TimeoutController] })
    class TimeoutModule {}

    const { http, runner } = await createApp(platform, TimeoutModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(outcomes).toEqual([
      ["module's", 5],
      ["task's", 6],
    ]);
    expect(patient?.signal.aborted).toBe(false);
  });
});

describe.each(platforms)('what this package logs and throws on %s', (platform) => {
  it('never contains the arguments of a task', async () => {
    const secret = 'hunter2';
    const slow = gate();
    const ended = gate();
    const errors: string[] = [];

    @Controller()
    class SecretController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        const logIn = (password: string): never => fail(new Error(`${password.length} letters`));
        const logInLate = (password: string): Promise<void> => slow.opened.then(() => (password === secret ? ended.open() : undefined));
        tasks.addTask(logIn, secret);
        tasks.addTask({ runOn: 'failure' }, logIn, secret);
        tasks.addTask({ timeout: 5 }, logInLate, secret);
        for (const refused of [logIn, undefined, secret]) {
          try {
            // @ts-expect-error The first is beyond maxPending, the others are no functions.
            tasks.addTask(refused, secret);
          } catch (error) {
            errors.push(String(error));
          }
        }
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ maxPending: 3 })], controllers: [SecretController] })
    class SecretModule {}

    const { http, runner, logs } = await createApp(platform, SecretModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    slow.open();
    await ended.opened;
    await setImmediate();
    expect(logs.lines.map(({ level }) => level).sort()).toEqual(['debug', 'error', 'error', 'warn']);
    expect(errors).toHaveLength(3);
    expect(JSON.stringify([logs.lines, errors])).not.toContain(secret);
  });
});

function fail(error: unknown): never {
  throw error;
}
