// Public API: the id and the end of a task for an engine and of a task made by hand. Guarantee 9: a kept task retains nothing of its
// request.
import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, Req } from '@nestjs/common';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksCancelledError,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  type EngineEntry,
  type EngineHost,
  currentTask,
} from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

setFlagsFromString('--expose-gc');
const gc: () => void = runInNewContext('gc');

describe.each(platforms)('a kept task on %s', (platform) => {
  it.each(['asked', 'not asked', 'asked when it had ended', 'cancelled'])('retains nothing of its request: %s', async (how) => {
    const store = new AsyncLocalStorage<object>();
    const refs = new Map<string, WeakRef<object>>();
    let kept!: BackgroundTask;

    const add = (request: object, tasks: BackgroundTasks): void => {
      const [argument, closure, stored] = [{}, {}, {}];
      store.run(stored, () => {
        kept = tasks.addTask(function work(_argument: object) {
          return closure;
        }, argument);
      });
      if (how === 'asked') void kept.ended;
      if (how === 'cancelled') kept.cancel();
      for (const [name, object] of Object.entries({ request, argument, closure, stored })) {
        // Keeping a task without reading anything of it keeps its async context.
        if (how !== 'not asked' || name !== 'stored') refs.set(name, new WeakRef(object));
      }
    };

    @Controller()
    class KeepingController {
      @Get()
      get(@Req() request: object, @BackgroundTasks() tasks: BackgroundTasks) {
        add(request, tasks);
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [KeepingController] })
    class KeepingModule {}

    const { http, runner } = await createApp(platform, KeepingModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    if (how === 'asked when it had ended') expect(await kept.ended).toBe('completed');
    let left: string[] = [];
    for (let attempt = 0; attempt < 10; attempt++) {
      for (let turn = 0; turn < 10; turn++) await setImmediate();
      gc();
      left = [...refs].filter(([, ref]) => ref.deref()).map(([name]) => name);
      if (left.length === 0) break;
    }
    expect(left).toEqual([]);
    expect({ name: kept.name, args: kept.args }).toEqual({ name: 'work', args: [] });
    expect(kept.func()).toBeUndefined();
    store.disable();
  });
});

describe.each(platforms)('a task for an engine, on %s', (platform) => {
  let mail: BackgroundTask;
  let host: EngineHost;
  let entries: EngineEntry[];
  let taken: Gate;
  let seen: unknown[];

  @Injectable()
  class Mail {
    @BackgroundTask('welcome')
    welcome(): void {
      const task = currentTask()!;
      seen.push(task.id, task.cancel());
    }
  }

  @Controller()
  class MailController {
    constructor(private readonly mail: Mail) {}

    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      mail = tasks.addTask(this.mail.welcome);
      return mail.id;
    }

    @Get('cancelled')
    cancelled(@BackgroundTasks() tasks: BackgroundTasks) {
      mail = tasks.addTask(this.mail.welcome);
      return String(mail.cancel());
    }
  }

  async function serve(enqueue: () => Promise<void>, options: BackgroundTasksModuleOptions = {}) {
    entries = [];
    seen = [];
    taken = gate();
    const engine: BackgroundTasksEngine = {
      enqueue(handedOver) {
        entries.push(...handedOver);
        return enqueue();
      },
      work: (handsOutTo) => void (host = handsOutTo),
      close: () => Promise.resolve(),
    };

    @Module({ imports: [BackgroundTasksModule.forRoot({ engine, ...options })], controllers: [MailController], providers: [Mail] })
    class MailModule {}

    return createApp(platform, MailModule);
  }

  it('has the id of its job, is queued when the engine has it, and cannot be cancelled any more', async () => {
    const { http, runner } = await serve(() => taken.opened, { flush: 'after-response' });
    const { text: id } = await http.get('/').expect(200);
    expect(runner.find(id)).toBe(mail);
    await setImmediate();
    expect(entries.map((entry) => entry.id)).toEqual([id]);
    expect(mail.cancel()).toBe(false);
    taken.open();
    expect(await mail.ended).toBe('queued');
    expect(runner.find(id)).toBeUndefined();
    expect(mail.cancel()).toBe(false);

    await host.run({ ...entries[0]!, attempt: 1 }, new AbortController().signal);
    expect(seen).toEqual([id, false]);
  });

  it('is discarded if the engine does not take it', async () => {
    const { http } = await serve(() => Promise.reject(new Error('away')), { flush: 'after-response', flushTimeout: 5 });
    await http.get('/').expect(200);
    expect(await mail.ended).toBe('discarded');
  });

  it('can be cancelled before it is handed over', async () => {
    const { http, runner } = await serve(() => Promise.resolve());
    await http.get('/cancelled').expect(200, 'true');
    await runner.onIdle();
    expect(await mail.ended).toBe('cancelled');
    expect(entries).toEqual([]);
  });
});

describe('a task made by hand', () => {
  it('resolves `ended` when it has run', async () => {
    const task = new BackgroundTask(() => {});
    const failing = new BackgroundTask(() => Promise.reject(new Error('oh')));
    await task.run();
    await expect(failing.run()).rejects.toThrow('oh');
    expect([await task.ended, await failing.ended]).toEqual(['completed', 'failed']);
  });

  it('is left out of its list once it was cancelled, and refuses to run', async () => {
    const ran: string[] = [];
    const tasks = new BackgroundTasks();
    const unwanted = tasks.addTask(() => ran.push('unwanted'));
    tasks.addTask(() => ran.push('other'));
    expect([unwanted.cancel(), unwanted.cancel()]).toEqual([true, false]);
    await tasks.run();
    expect(ran).toEqual(['other']);
    expect(await unwanted.ended).toBe('cancelled');
    await expect(unwanted.run()).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_INVALID_TASK',
      message: expect.stringContaining('was cancelled'),
    });
  });

  it('rejects run(), and fires its signal, if it is cancelled while it runs', async () => {
    let signal: AbortSignal | undefined;
    const task = new BackgroundTask({ name: 'endless' }, () => {
      signal = currentTask()!.signal;
      return new Promise(() => {});
    });
    const run = task.run();
    expect(task.cancel('enough')).toBe(true);
    await expect(run).rejects.toBeInstanceOf(BackgroundTasksCancelledError);
    expect(signal?.reason).toMatchObject({
      code: 'BACKGROUND_TASK_CANCELLED',
      message: 'Background task "endless" was cancelled while it ran: enough',
    });
  });
});
