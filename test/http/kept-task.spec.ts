// Public API: the id, the end and the cancellation of a task, for code that keeps it.
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Delete, Get, HttpException, Module, NotFoundException, Param, Post } from '@nestjs/common';
import {
  type BackgroundTask,
  BackgroundTasks,
  BackgroundTasksCancelledError,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  BackgroundTasksRunner,
  currentTask,
} from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';

const UUID = /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/;

afterEach(() => setImmediate());

describe.each(platforms)('a kept task on %s', (platform) => {
  let held: BackgroundTask[];
  let slow: Gate;

  /** Serves `POST /`, which adds what the test says, and answers with the ids; `GET` and `DELETE /:id` look a task up. */
  async function serve(add: (tasks: BackgroundTasks) => BackgroundTask[], options: BackgroundTasksModuleOptions = {}) {
    held = [];
    slow = gate();

    @Controller()
    class TasksController {
      constructor(private readonly runner: BackgroundTasksRunner) {}

      @Post()
      post(@BackgroundTasks() tasks: BackgroundTasks) {
        held = add(tasks);
        return held.map(({ id }) => id);
      }

      @Post('fails')
      fails(@BackgroundTasks() tasks: BackgroundTasks) {
        held = add(tasks);
        throw new HttpException('nothing to be had', 418);
      }

      @Get(':id')
      get(@Param('id') id: string) {
        const task = this.runner.find(id);
        if (!task) throw new NotFoundException();
        return { name: task.name };
      }

      @Delete(':id')
      cancel(@Param('id') id: string) {
        return { cancelled: this.runner.find(id)?.cancel('the user asked for it') ?? false };
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [TasksController] })
    class TasksModule {}

    return createApp(platform, TasksModule);
  }

  const ends = (): Promise<string[]> => Promise.all(held.map(({ ended }) => ended));

  it('has an id of its own, which stays the same', async () => {
    const { http, runner } = await serve((tasks) => [tasks.addTask(() => {}), tasks.addTask({ name: 'second' }, () => {})]);
    const { body } = await http.post('/').expect(201);
    expect(body).toEqual([expect.stringMatching(UUID), expect.stringMatching(UUID)]);
    expect(body[0]).not.toBe(body[1]);
    await runner.onIdle();
    expect(held.map(({ id }) => id)).toEqual(body);
  });

  it.each<{ end: string; task: () => unknown; timeout?: number }>([
    { end: 'completed', task: () => {} },
    { end: 'completed', task: async () => setImmediate() },
    { end: 'failed', task: () => fail(new Error('sync')) },
    { end: 'failed', task: () => Promise.reject(new Error('async')) },
    { end: 'failed', task: () => new Promise(() => {}), timeout: 5 },
  ])('resolves `ended` with "$end", before and after its end', async ({ end, task, timeout }) => {
    const { http, runner } = await serve((tasks) => [tasks.addTask({ timeout }, task), tasks.addTask(() => {})]);
    await http.post('/').expect(201);
    expect(await ends()).toEqual([end, 'completed']);
    await runner.onIdle();
    expect(await ends()).toEqual([end, 'completed']);
    expect(await held[0]!.ended).toBe(await held[0]!.ended);
  });

  it('resolves `ended` with "discarded" because of the outcome or of an earlier failure', async () => {
    const { http } = await serve(
      (tasks) => [
        tasks.addTask({ runOn: 'failure' }, () => {}),
        tasks.addTask({ runOn: 'always' }, () => fail(new Error('no more'))),
        tasks.addTask({ runOn: 'always' }, () => {}),
      ],
      { onTaskFailure: 'stop' },
    );
    await http.post('/').expect(201);
    expect(await ends()).toEqual(['discarded', 'failed', 'discarded']);
    await http.post('/fails').expect(418);
    // On failure the first one runs.
    expect(await ends()).toEqual(['completed', 'failed', 'discarded']);
  });

  it('resolves `ended` at a shutdown with "failed" if it was aborted, with "discarded" if it never started', async () => {
    const { app, http } = await serve((tasks) => [tasks.addTask(() => slow.opened), tasks.addTask(() => {})], { shutdownTimeout: 20 });
    await http.post('/').expect(201);
    await app.close();
    expect(await ends()).toEqual(['failed', 'discarded']);
  });

  it('counts once if the signal of a task that the shutdown aborts cancels it', async () => {
    const { app, http, runner } = await serve(
      (tasks) => [
        tasks.addTask(() => {
          currentTask()!.signal.addEventListener('abort', () => held[1]!.cancel());
          return new Promise(() => {});
        }),
        tasks.addTask(() => {}),
      ],
      { shutdownTimeout: 20 },
    );
    await http.post('/').expect(201);
    await app.close();
    await runner.onIdle();
    expect(await ends()).toEqual(['failed', 'cancelled']);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0, discardedCount: 1 });
  });

  it('resolves `ended` with "discarded" if it is added after the application has closed', async () => {
    let kept!: BackgroundTasks;
    const { app, http } = await serve((tasks) => {
      kept = tasks;
      return [tasks.addTask(() => {})];
    });
    await http.post('/').expect(201);
    await held[0]!.ended;
    await app.close();
    const late = kept.addTask(() => {});
    expect(await late.ended).toBe('discarded');
    expect(late.cancel()).toBe(false);
  });

  it('can be found and awaited like any other if it is added late', async () => {
    let kept!: BackgroundTasks;
    const { http, runner } = await serve((tasks) => {
      kept = tasks;
      return [tasks.addTask(() => {})];
    });
    await http.post('/').expect(201);
    await held[0]!.ended;
    const late = kept.addTask(() => slow.opened);
    expect(runner.find(late.id)).toBe(late);
    slow.open();
    expect(await late.ended).toBe('completed');
  });

  it('is found by its id while it waits and while it runs, and not when it has ended', async () => {
    const { http, runner } = await serve((tasks) => [
      tasks.addTask(function first() {
        return slow.opened;
      }),
      tasks.addTask(function second() {}),
    ]);
    const { body: ids } = await http.post('/').expect(201);
    await http.get(`/${ids[0]}`).expect(200, { name: 'first' });
    await http.get(`/${ids[1]}`).expect(200, { name: 'second' });
    expect(runner.find(ids[1])).toBe(held[1]);
    slow.open();
    await runner.onIdle();
    for (const id of ids) await http.get(`/${id}`).expect(404);
    expect(runner.find('none')).toBeUndefined();
  });

  it('is found although its id is asked for when it runs, and never when it had ended', async () => {
    let id: string | undefined;
    const started = gate();
    const { runner, http } = await serve((tasks) => {
      tasks.addTask(() => {
        id = currentTask()!.id;
        started.open();
        return slow.opened;
      });
      return [];
    });
    await http.post('/').expect(201);
    await started.opened;
    expect(runner.find(id!)).toBeDefined();
    slow.open();
    await runner.onIdle();
    expect(runner.find(id!)).toBeUndefined();
  });

  it('is discarded with the reason if it is cancelled while it waits', async () => {
    const ran: string[] = [];
    const errors: unknown[] = [];
    const started = gate();
    const { http, runner, logs } = await serve(
      (tasks) => [
        tasks.addTask(() => {
          started.open();
          return slow.opened;
        }),
        tasks.addTask({ name: 'unwanted' }, () => void ran.push('unwanted')),
        tasks.addTask(() => void ran.push('sibling')),
      ],
      { onError: (error) => void errors.push(error) },
    );
    const { body: ids } = await http.post('/').expect(201);
    await started.opened;
    expect(runner.pendingCount).toBe(2);
    await http.delete(`/${ids[1]}`).expect(200, { cancelled: true });
    expect(runner).toMatchObject({ pendingCount: 1, discardedCount: 1 });
    expect(await held[1]!.ended).toBe('cancelled');
    expect(held[1]!.cancel()).toBe(false);
    await http.delete(`/${ids[1]}`).expect(200, { cancelled: false });
    slow.open();
    await runner.onIdle();
    expect(ran).toEqual(['sibling']);
    expect(logs.of('debug')).toEqual(['Background task "unwanted" was discarded: it was cancelled: the user asked for it']);
    expect(errors).toEqual([]);
  });

  it('is aborted if it is cancelled while it runs: its signal fires, and its siblings go on, also where failures stop them', async () => {
    const ran: string[] = [];
    const errors: unknown[] = [];
    let signal: AbortSignal | undefined;
    const { http, runner, logs } = await serve(
      (tasks) => [
        tasks.addTask({ name: 'endless' }, () => {
          signal = currentTask()!.signal;
          return new Promise(() => {});
        }),
        tasks.addTask(() => void ran.push('sibling')),
      ],
      { onTaskFailure: 'stop', onError: (error) => void errors.push(error) },
    );
    const { body: ids } = await http.post('/').expect(201);
    await http.delete(`/${ids[0]}`).expect(200, { cancelled: true });
    expect(await ends()).toEqual(['cancelled', 'completed']);
    await runner.onIdle();
    expect(ran).toEqual(['sibling']);
    expect(signal?.reason).toBeInstanceOf(BackgroundTasksCancelledError);
    expect(signal?.reason).toMatchObject({ code: 'BACKGROUND_TASK_CANCELLED', task: 'endless', reason: 'the user asked for it' });
    // Somebody wanted it so: it is no failure.
    expect(errors).toEqual([]);
    expect(logs.of('error')).toEqual([]);
    expect(logs.of('debug')).toEqual(['Background task "endless" was cancelled while it ran: the user asked for it']);
    expect(held.map((task) => task.cancel())).toEqual([false, false]);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
  });

  it('can be cancelled before it starts, by the handler itself and by an earlier task', async () => {
    const ran: string[] = [];
    const { http, runner } = await serve((tasks) => {
      const first = tasks.addTask(() => ran.push('first'));
      const second = tasks.addTask(() => void third.cancel());
      const third = tasks.addTask(() => ran.push('third'));
      expect(first.cancel()).toBe(true);
      return [first, second, third];
    });
    await http.post('/').expect(201);
    expect(await ends()).toEqual(['cancelled', 'completed', 'cancelled']);
    await runner.onIdle();
    expect(ran).toEqual([]);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0, discardedCount: 2 });
  });

  it('can cancel itself, whether or not it goes on afterwards', async () => {
    const { http, runner } = await serve((tasks) => [
      tasks.addTask(() => void currentTask()!.cancel()),
      tasks.addTask(async () => {
        currentTask()!.cancel();
        await slow.opened;
      }),
      tasks.addTask(async () => {
        const self = currentTask()!;
        await setImmediate();
        self.cancel();
        await slow.opened;
      }),
      tasks.addTask(() => {}),
    ]);
    await http.post('/').expect(201);
    expect(await ends()).toEqual(['cancelled', 'cancelled', 'cancelled', 'completed']);
    await runner.onIdle();
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
  });

  it('frees its room under maxPending and concurrency when it is cancelled', async () => {
    const started = new Recorder<string>();
    const { http, runner } = await serve(
      (tasks) => [
        tasks.addTask(() => {
          started.add(currentTask()!.name);
          return slow.opened;
        }),
      ],
      { concurrency: 1, maxPending: 1 },
    );
    await http.post('/').expect(201);
    const [running] = held;
    await started.atLeast(1);
    expect(runner.activeCount).toBe(1);
    await http.post('/').expect(201);
    const [waiting] = held;
    await http.post('/').expect(503);
    expect(waiting!.cancel()).toBe(true);
    await http.post('/').expect(201);
    const [another] = held;
    expect(running!.cancel()).toBe(true);
    await started.atLeast(2);
    expect(runner).toMatchObject({ activeCount: 1, pendingCount: 0 });
    slow.open();
    expect(await another!.ended).toBe('completed');
  });

  it.each([
    ['text of several lines', 'one\ntwo', 'one\\ntwo'],
    ['nothing', undefined, 'no reason was given'],
  ])('can be cancelled with %s for the reason', async (_, reason, logged) => {
    const { http, logs } = await serve((tasks) => [tasks.addTask({ name: 'odd' }, () => {})]);
    await http.post('/').expect(201);
    await held[0]!.ended;
    const { http: again, logs: lines } = await serve((tasks) => {
      const task = tasks.addTask({ name: 'odd' }, () => {});
      task.cancel(reason);
      return [task];
    });
    await again.post('/').expect(201);
    expect(logs.lines).toEqual([]);
    expect(lines.of('debug')).toEqual([`Background task "odd" was discarded: it was cancelled: ${logged}`]);
  });

  it('runs on if the reason of cancel() cannot be put into text, which throws', async () => {
    const { http, runner } = await serve((tasks) => {
      const task = tasks.addTask(() => {});
      expect(() => task.cancel(Object.create(null))).toThrow(TypeError);
      return [task];
    });
    await http.post('/').expect(201);
    expect(await ends()).toEqual(['completed']);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
  });

  it('refuses run(), which is for lists made by hand: it would run twice', async () => {
    const ran: string[] = [];
    const { http, runner } = await serve((tasks) => [tasks.addTask({ name: 'once' }, () => void ran.push('once'))]);
    await http.post('/').expect(201);
    await runner.onIdle();
    await expect(held[0]!.run()).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_LIST_OF_A_REQUEST',
      message: expect.stringContaining('Background task "once" runs by itself'),
    });
    expect(ran).toEqual(['once']);
  });
});

function fail(error: unknown): never {
  throw error;
}
