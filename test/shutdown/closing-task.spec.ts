// Guarantee 8: a shutdown never hangs, also if a task closes the application.
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { Controller, type INestApplication, Module, type OnModuleDestroy, Post, Scope } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule, type BackgroundTasksRootOptions } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

describe.each(platforms)('a task that closes the application, on %s', (platform) => {
  const log: string[] = [];

  /** Serves `POST /`, whose task closes the application as the test says. */
  async function serve(
    close: (app: INestApplication) => unknown,
    { timeout, options }: { timeout?: number; options?: BackgroundTasksRootOptions } = {},
  ) {
    log.length = 0;
    const slow = gate();
    const closing = gate();
    const disconnected = gate();
    let app!: INestApplication;

    @Controller()
    class ClosingController {
      @Post()
      post(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ timeout }, function closes() {
          closing.open();
          return close(app);
        });
      }

      @Post('other')
      other(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(async () => {
          await slow.opened;
          log.push('other task');
        });
      }
    }

    @Module({
      imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 600_000, scope: Scope.DEFAULT, ...options })],
      controllers: [ClosingController],
    })
    class ClosingModule implements OnModuleDestroy {
      onModuleDestroy() {
        log.push('disconnected');
        disconnected.open();
      }
    }

    const served = await createApp(platform, ClosingModule);
    app = served.app;
    return { ...served, runner: served.runner, slow, closing: closing.opened, disconnected: disconnected.opened };
  }

  it.each<[string, (app: INestApplication) => unknown]>([
    ['and returns its promise', (app) => app.close()],
    [
      'and awaits it, after something else',
      async (app) => {
        await setImmediate();
        await app.close();
      },
    ],
    ['and something else', (app) => Promise.all([setImmediate(), app.close()])],
  ])('%s, is not waited for by that shutdown, while others are', async (_, close) => {
    const { http, logs, runner, slow, closing, disconnected } = await serve(close);
    await http.post('/other').expect(201);
    await http.post('/').expect(201);
    await closing;
    await setImmediate();
    expect(log).toEqual([]);
    slow.open();
    await disconnected;
    await runner.onIdle();
    expect(log).toEqual(['other task', 'disconnected']);
    expect(logs.of('error')).toEqual([]);
    expect(logs.of('warn')).toEqual([
      'A background task awaits the shutdown that it requested, which does not wait for it; in a task, call `app.close()` without `await`',
    ]);
  });

  it('and is aborted meanwhile, leaves the shutdown waiting for the others', async () => {
    const { http, logs, slow, disconnected } = await serve((app) => app.close(), { timeout: 10 });
    await http.post('/other').expect(201);
    await http.post('/').expect(201);
    await logs.saying('did not end within its timeout');
    for (let turn = 0; turn < 5; turn++) await setImmediate();
    expect(log).toEqual([]);
    slow.open();
    await disconnected;
    expect(log).toEqual(['other task', 'disconnected']);
  });

  it('in the first step of its function, is known under Scope.REQUEST on every version of Node', async () => {
    const { http, runner, disconnected } = await serve((app) => app.close(), { options: { scope: Scope.REQUEST } });
    await http.post('/').expect(201);
    await disconnected;
    await runner.onIdle();
    expect(log).toEqual(['disconnected']);
  });

  it('and awaits it in `onError`, is not waited for by that shutdown, while others are', async () => {
    let app!: INestApplication;
    const failed = gate();
    const onError = (): Promise<void> => {
      failed.open();
      return app.close();
    };
    const served = await serve(
      () => {
        throw new Error('fatal');
      },
      { options: { onError } },
    );
    app = served.app;
    await served.http.post('/other').expect(201);
    await served.http.post('/').expect(201);
    await failed.opened;
    await setImmediate();
    expect(log).toEqual([]);
    served.slow.open();
    await served.disconnected;
    await served.runner.onIdle();
    expect(log).toEqual(['other task', 'disconnected']);
  });

  it('when a signal, or other code, has closed it already, is not waited for either', async () => {
    const begun = gate();
    const { app, http, runner, closing, disconnected } = await serve(async (closed) => {
      await begun.opened;
      await closed.close();
    });
    await http.post('/').expect(201);
    await closing;
    const closed = app.close();
    begun.open();
    await closed;
    await disconnected;
    await runner.onIdle();
    // Nest 11 runs the hooks again.
    expect([...new Set(log)]).toEqual(['disconnected']);
  });

  it('without waiting for it, is awaited like any other', async () => {
    const { http, logs, disconnected } = await serve(async (app) => {
      void app.close();
      await setImmediate();
      log.push('closing task');
    });
    await http.post('/').expect(201);
    await disconnected;
    expect(log).toEqual(['closing task', 'disconnected']);
    expect(logs.of('warn')).toEqual([]);
  });
});
