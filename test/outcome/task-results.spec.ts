// Guarantee 5: a task ends with what its function returns: promises, Observables; what nobody would iterate has failed.
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module } from '@nestjs/common';
import { type BackgroundTask, BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { EMPTY, Observable, Subject, concat, defer, from, of, throwError } from 'rxjs';
import { createApp, platforms } from '../support/app.js';

// Jest fails a test for every unhandledRejection and uncaughtException. Node raises them once the microtasks are through.
afterEach(() => setImmediate());

describe.each(platforms)('a task on %s that returns', (platform) => {
  let task: BackgroundTask;

  async function serve(func: () => unknown, timeout?: number) {
    const siblings: string[] = [];

    @Controller()
    class OddController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        task = tasks.addTask({ name: 'odd', timeout }, func);
        tasks.addTask(() => void siblings.push('after'));
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [OddController] })
    class OddModule {}

    const app = await createApp(platform, OddModule);
    await app.http.get('/').expect(200);
    await app.runner.onIdle();
    return { ...app, runner: app.runner, siblings };
  }

  class ForeignPromise<T> extends Promise<T> {
    // oxlint-disable-next-line unicorn/no-thenable
    override then(): never {
      throw new Error('then');
    }
  }

  it.each<[string, () => unknown, logged: string | undefined]>([
    ['a promise with a `then` of its own that throws', () => owned(Promise.resolve(), { value: () => fail('then') }), undefined],
    ['a promise whose `then` throws when it is read', () => owned(Promise.resolve(), { get: () => fail('then') }), 'failed: then'],
    ['a promise of a class whose `then` throws', () => new ForeignPromise((resolve) => resolve(undefined)), 'failed: then'],
    [
      'a promise whose `constructor` throws when it is read',
      () => Object.defineProperty(Promise.resolve(), 'constructor', { get: () => fail('constructor') }),
      'failed: constructor',
    ],
    [
      'a promise whose `then` calls back twice',
      () =>
        owned(Promise.resolve(), {
          value: (resolve: () => void, reject: (error: Error) => void) => {
            resolve();
            resolve();
            reject(new Error('second'));
          },
        }),
      undefined,
    ],
  ])('%s ends once, and its siblings run', async (_, func, logged) => {
    const { runner, logs, siblings } = await serve(func);
    expect(siblings).toEqual(['after']);
    expect(logs.lines.map(({ message }) => message)).toEqual(logged ? [`Background task "odd" ${logged}`] : []);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
    await setImmediate();
    expect(logs.lines).toHaveLength(logged ? 1 : 0);
  });

  it.each([
    ['an Observable', (source: Observable<unknown>) => source],
    ['a promise of an Observable', async (source: Observable<unknown>) => source],
  ])('%s is subscribed to, once, in its context, and its end awaited', async (_, wrap) => {
    const seen: unknown[] = [];
    const source = concat(
      defer(() => {
        seen.push('subscribed');
        return from(setImmediate('later'));
      }),
      defer(() => {
        seen.push('end');
        return EMPTY;
      }),
    );
    const { siblings, logs } = await serve(() => wrap(source));
    expect(seen).toEqual(['subscribed', 'end']);
    expect(siblings).toEqual(['after']);
    expect(await task.ended).toBe('completed');
    expect(logs.lines).toEqual([]);
  });

  it('an Observable that fails has failed', async () => {
    const { logs, siblings } = await serve(() =>
      concat(
        of(1),
        throwError(() => new Error('no answer')),
      ),
    );
    expect(logs.of('error')).toEqual(['Background task "odd" failed: no answer']);
    expect(siblings).toEqual(['after']);
    expect(await task.ended).toBe('failed');
  });

  it('an Observable is the current task where it is subscribed to, and unsubscribed from at the timeout', async () => {
    const seen: unknown[] = [];
    const { logs, siblings } = await serve(
      () =>
        new Observable(() => {
          seen.push(currentTask()?.name);
          return () => void seen.push('unsubscribed');
        }),
      5,
    );
    await setImmediate();
    expect(seen).toEqual(['odd', 'unsubscribed']);
    expect(logs.of('error')).toEqual([expect.stringContaining('did not end within its timeout of 5 ms')]);
    expect(logs.of('warn')).toEqual([]);
    expect(siblings).toEqual(['after']);
  });

  it('an Observable is unsubscribed from when it is cancelled', async () => {
    const source = new Subject<void>();

    @Controller()
    class WatchingController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        task = tasks.addTask(() => source);
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [WatchingController] })
    class WatchingModule {}

    const { http, runner } = await createApp(platform, WatchingModule);
    await http.get('/').expect(200);
    await setImmediate();
    expect(source.observed).toBe(true);
    expect(task.cancel()).toBe(true);
    expect(source.observed).toBe(false);
    await runner.onIdle();
  });

  it.each<[string, () => unknown]>([
    [
      'a generator',
      function* () {
        yield fail('never');
      },
    ],
    [
      'an async generator',
      async function* () {
        yield await Promise.resolve();
      },
    ],
    [
      'a promise of a generator',
      async () =>
        (function* () {
          yield fail('never');
        })(),
    ],
    ['an iterator', () => [1][Symbol.iterator]()],
  ])('%s has failed: nothing iterates it', async (_, func) => {
    const { logs, siblings } = await serve(func);
    expect(logs.of('error')).toEqual([
      'Background task "odd" returned an iterator, which nothing iterates, so its work was not done, or not all of it. ' +
        'Iterate it in the task, `for await (const item of items()) { … }`, or return a promise',
    ]);
    expect(siblings).toEqual(['after']);
    expect(await task.ended).toBe('failed');
  });

  it.each<[string, unknown]>([
    ['an array', [1]],
    ['a map', new Map()],
    ['text', 'text'],
    ['a buffer', Buffer.from('text')],
  ])('%s has completed: nothing is left to do', async (_, value) => {
    const { logs } = await serve(() => value);
    expect(logs.lines).toEqual([]);
    expect(await task.ended).toBe('completed');
  });
});

function owned(promise: Promise<unknown>, then: PropertyDescriptor): Promise<unknown> {
  // oxlint-disable-next-line unicorn/no-thenable
  return Object.defineProperty(promise, 'then', then);
}

function fail(message: string): never {
  throw new Error(message);
}
