// Public API: `concurrency` and `maxPending`. Guarantee 3: under load, every task is run, discarded or refused.
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { type CanActivate, Controller, Get, Injectable, Module, NotFoundException, Param, UseGuards } from '@nestjs/common';
import {
  BackgroundTasks,
  BackgroundTasksModule,
  BackgroundTasksOverflowError,
  type BackgroundTasksModuleOptions,
  BackgroundTasksRunner,
} from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

describe.each(platforms)('concurrency on %s', (platform) => {
  /** Serves `GET /:request/:count`, which adds so many tasks; each says that it started, and waits until the test ends it. */
  async function serve(options: BackgroundTasksModuleOptions) {
    const started: string[] = [];
    const running: Gate[] = [];

    @Controller()
    class TaskController {
      @Get(':request/:count')
      get(@Param('request') request: string, @Param('count') count: string, @BackgroundTasks() tasks: BackgroundTasks) {
        for (let n = 1; n <= Number(count); n++) {
          tasks.addTask(() => {
            started.push(`${request}${n}`);
            const end = gate();
            running.push(end);
            return end.opened;
          });
        }
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [TaskController] })
    class TaskModule {}

    const { http, runner } = await createApp(platform, TaskModule);
    let peak = 0;
    return {
      http,
      runner,
      started,
      /** Ends the running tasks, oldest first, until all are through; gives the most that ran at once. */
      async endAll(): Promise<number> {
        const idle = runner.onIdle().then(() => true);
        for (let through = false; !through;) {
          peak = Math.max(peak, runner.activeCount);
          running.shift()?.open();
          through = await Promise.race([idle, setImmediate(false)]);
        }
        return peak;
      },
    };
  }

  it('is one for the whole application, whatever the number of requests', async () => {
    const { http, runner, started, endAll } = await serve({ concurrency: 2 });
    await Promise.all(['a', 'b', 'c', 'd', 'e'].map((request) => http.get(`/${request}/2`).expect(200)));
    expect(await endAll()).toBe(2);
    expect(started).toHaveLength(10);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
  });

  it('starts first what was flushed first, one task of each request in turn', async () => {
    const { http, started, endAll } = await serve({ concurrency: 1 });
    for (const path of ['/a/3', '/b/1', '/c/2']) await http.get(path).expect(200);
    await endAll();
    expect(started).toEqual(['a1', 'b1', 'c1', 'a2', 'c2', 'a3']);
  });

  it('a request with very many tasks does not starve another', async () => {
    const { http, started, endAll } = await serve({ concurrency: 1 });
    await http.get('/many/1000').expect(200);
    await http.get('/few/1').expect(200);
    await endAll();
    expect(started.indexOf('few1')).toBeLessThanOrEqual(2);
    expect(started).toHaveLength(1001);
  });

  it('is unlimited by default: requests run tasks side by side, each request one after the other', async () => {
    const { http, runner, started, endAll } = await serve({});
    for (const request of ['a', 'b', 'c', 'd', 'e']) await http.get(`/${request}/2`).expect(200);
    expect(await endAll()).toBe(5);
    expect(started.slice(0, 5).sort()).toEqual(['a1', 'b1', 'c1', 'd1', 'e1']);
    await runner.onIdle();
  });
});

describe.each(platforms)('very many synchronous tasks on %s', (platform) => {
  it('let other requests through', async () => {
    let ran = 0;
    const busy = gate();

    @Controller()
    class BusyController {
      @Get('many')
      many(@BackgroundTasks() tasks: BackgroundTasks) {
        // Some 200 ms of work, a little at a time.
        const task = (): void => {
          const end = performance.now() + 1;
          while (performance.now() < end);
          ran += 1;
          busy.open();
        };
        for (let n = 0; n < 200; n++) tasks.addTask(task);
      }

      @Get('other')
      other() {
        return ran;
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [BusyController] })
    class BusyModule {}

    const { http, runner } = await createApp(platform, BusyModule);
    await http.get('/many').expect(200);
    await busy.opened;
    const { text } = await http.get('/other').expect(200);
    expect(Number(text)).toBeLessThan(200);
    await runner.onIdle();
    expect(ran).toBe(200);
  });
});

describe.each(platforms)('maxPending on %s', (platform) => {
  const ran: string[] = [];
  let holding: Gate;
  let release: Gate;

  @Injectable()
  class AddingGuard implements CanActivate {
    constructor(private readonly tasks: BackgroundTasks) {}

    canActivate() {
      this.tasks.addTask(() => void ran.push('guard'));
      return true;
    }
  }

  @Injectable()
  class CatchingGuard implements CanActivate {
    constructor(private readonly tasks: BackgroundTasks) {}

    canActivate() {
      expect(() => this.tasks.addTask(() => {})).toThrow(BackgroundTasksOverflowError);
      return true;
    }
  }

  @Controller()
  class LimitedController {
    constructor(private readonly runner: BackgroundTasksRunner) {}

    @Get('hold')
    hold(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(() => {
        holding.open();
        return release.opened;
      });
    }

    @Get('add/:name')
    add(@Param('name') name: string, @BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name }, () => void ran.push(name));
      return name;
    }

    @Get('caught')
    caught(@BackgroundTasks() tasks: BackgroundTasks) {
      try {
        tasks.addTask({ name: 'mail' }, () => {});
      } catch (error) {
        if (!(error instanceof BackgroundTasksOverflowError)) throw error;
        const { code, task, maxPending, message } = error;
        return { code, task, maxPending, message };
      }
      return {};
    }

    @Get('caught-and-not-found')
    notFound(@BackgroundTasks() tasks: BackgroundTasks) {
      this.caught(tasks);
      throw new NotFoundException();
    }

    @Get('again')
    async again(@BackgroundTasks() tasks: BackgroundTasks) {
      this.caught(tasks);
      release.open();
      await this.runner.onIdle();
      tasks.addTask(() => void ran.push('again'));
    }

    @Get('guarded')
    @UseGuards(AddingGuard)
    guarded() {}

    @Get('guarded-and-caught')
    @UseGuards(CatchingGuard)
    guardedAndCaught() {}
  }

  @Module({ imports: [BackgroundTasksModule.forRoot({ concurrency: 1, maxPending: 2 })], controllers: [LimitedController] })
  class LimitedModule {}

  /** An application where one task runs and two wait, which is all that may. */
  async function serveFull() {
    ran.splice(0);
    [holding, release] = [gate(), gate()];
    const app = await createApp(platform, LimitedModule);
    await app.http.get('/hold').expect(200);
    await holding.opened;
    await app.http.get('/add/first').expect(200);
    await app.http.get('/add/second').expect(200);
    return app;
  }

  afterEach(() => release.open());

  it.each(['/add/third', '/guarded'])('beyond it, %s answers 503 with Retry-After, and says nothing of the inside', async (path) => {
    const { http, runner } = await serveFull();
    const response = await http.get(path).expect(503).expect('Retry-After', '1');
    expect(response.text).not.toContain('maxPending');
    expect(runner).toMatchObject({ activeCount: 1, pendingCount: 2 });
    release.open();
    await runner.onIdle();
    expect(ran).toEqual(['first', 'second']);
  });

  it.each([
    ['/caught', 200],
    ['/caught-and-not-found', 404],
    ['/guarded-and-caught', 200],
  ])('%s, where the error is caught, answers %i without Retry-After', async (path, status) => {
    const { http } = await serveFull();
    const response = await http.get(path).expect(status);
    expect(response.headers).not.toHaveProperty('retry-after');
  });

  it('the error says what was refused, why, and what to do', async () => {
    const { http } = await serveFull();
    const { body } = await http.get('/caught').expect(200);
    expect(body).toEqual({
      code: 'BACKGROUND_TASK_OVERFLOW',
      task: 'mail',
      maxPending: 2,
      message: 'Background task "mail" was refused: 2 tasks are already waiting; try again later, or raise `maxPending`',
    });
  });

  it('the list takes tasks again as soon as there is room', async () => {
    const { http, runner, logs } = await serveFull();
    await http.get('/again').expect(200);
    await http.get('/add/later').expect(200);
    await runner.onIdle();
    expect(ran).toEqual(['first', 'second', 'again', 'later']);
    expect(logs.lines).toEqual([]);
  });
});

describe.each(platforms)('a burst on %s', (platform) => {
  it('every task is accounted for: run, discarded or refused', async () => {
    const count = { added: 0, ran: 0, refused: 0 };

    @Controller()
    class BurstController {
      @Get(':n')
      get(@Param('n') n: string, @BackgroundTasks() tasks: BackgroundTasks) {
        for (let task = 0; task < 5; task++) {
          count.added += 1;
          try {
            tasks.addTask(async () => {
              await setImmediate();
              count.ran += 1;
            });
          } catch (error) {
            if (error instanceof BackgroundTasksOverflowError) count.refused += 1;
            throw error;
          }
        }
        if (Number(n) % 3 === 0) throw new NotFoundException();
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ concurrency: 2, maxPending: 40 })], controllers: [BurstController] })
    class BurstModule {}

    const { url, runner, logs } = await createApp(platform, BurstModule);
    const statuses = await Promise.all(Array.from({ length: 300 }, async (_, n) => (await fetch(`${url}/${n}`)).status));
    await runner.onIdle();

    expect(new Set(statuses)).toEqual(new Set([200, 404, 503]));
    expect(count.added).toBe(count.ran + runner.discardedCount + count.refused);
    expect(count.refused).toBe(statuses.filter((status) => status === 503).length);
    expect(count.ran).toBe(5 * statuses.filter((status) => status === 200).length);
    expect(logs.of('debug')).toHaveLength(runner.discardedCount);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
  });
});
