// Public API: the option `waitUntil` gets the end of the tasks of a request, for platforms that freeze the process.
import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, NotFoundException, Scope } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule, type BackgroundTasksRootOptions } from 'nestjs-background-tasks';
import { RecordedLogs, createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

const fail = (error: unknown): never => {
  throw error;
};

describe.each(platforms)('waitUntil on %s', (platform) => {
  const caller = new AsyncLocalStorage<string>();
  let log: string[];
  let slow: ReturnType<typeof gate>;

  async function serve(add: (tasks: BackgroundTasks) => unknown, options: BackgroundTasksRootOptions = {}) {
    log = [];
    slow = gate();

    @Controller()
    class TasksController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        return caller.run('the handler', () => add(tasks));
      }

      @Get('fails')
      fails(@BackgroundTasks() tasks: BackgroundTasks) {
        add(tasks);
        throw new NotFoundException();
      }

      @Get('none')
      none() {}
    }

    const waitUntil = (promise: Promise<void>): void => {
      log.push(`called in ${caller.getStore()}`);
      void promise.then(() => log.push('over'));
    };

    @Module({ imports: [BackgroundTasksModule.forRoot({ waitUntil, ...options })], controllers: [TasksController] })
    class TasksModule {}

    return createApp(platform, TasksModule);
  }

  it('is called once for a request, in the context of its first addTask(), and fulfilled when all of its tasks are over', async () => {
    const second = gate();
    const { http, runner } = await serve((tasks) => {
      tasks.addTask(() => void log.push('first'));
      tasks.addTask(() => {
        second.open();
        return slow.opened;
      });
      tasks.addTask(() => {
        log.push('third');
        tasks.addTask(() => void log.push('nested'));
      });
    });
    await http.get('/').expect(200);
    await second.opened;
    expect(log).toEqual(['called in the handler', 'first']);
    slow.open();
    await runner.onIdle();
    await setImmediate();
    expect(log).toEqual(['called in the handler', 'first', 'third', 'nested', 'over']);
  });

  it('is not called for a request without tasks', async () => {
    const { http } = await serve(() => {});
    await http.get('/none').expect(200);
    expect(log).toEqual([]);
  });

  it('is fulfilled although tasks fail, once onError is through, and for those that are discarded or cancelled', async () => {
    const reported = gate();
    const { http, runner } = await serve(
      (tasks) => {
        tasks.addTask({ runOn: 'always' }, () => fail(new Error('a task')));
        tasks.addTask(() => void log.push('on success'));
        tasks.addTask({ runOn: 'always' }, () => {}).cancel();
      },
      { onError: () => reported.opened },
    );
    await http.get('/fails').expect(404);
    await setImmediate();
    expect(log).toEqual(['called in undefined']);
    reported.open();
    await runner.onIdle();
    await setImmediate();
    expect(log).toEqual(['called in undefined', 'over']);
  });

  it('is fulfilled if all tasks are cancelled before the answer, and only with it', async () => {
    const { http, runner } = await serve((tasks) => {
      tasks.addTask(() => {}).cancel();
      expect(log).toEqual(['called in the handler']);
    });
    await http.get('/').expect(200);
    await runner.onIdle();
    await setImmediate();
    expect(log).toEqual(['called in the handler', 'over']);
  });

  it('is called again for a late task, which would be lost', async () => {
    let kept!: BackgroundTasks;
    const { http, runner } = await serve((tasks) => {
      kept = tasks;
      tasks.addTask(() => {});
    });
    await http.get('/').expect(200);
    await runner.onIdle();
    kept.addTask(() => void log.push('late'));
    await runner.onIdle();
    await setImmediate();
    expect(log).toEqual(['called in the handler', 'over', 'called in undefined', 'late', 'over']);
  });

  it('that throws fails the request with what it threw, and no task is left', async () => {
    const { http, runner } = await serve((tasks) => tasks.addTask(() => void log.push('task')), {
      waitUntil: () => fail(new NotFoundException('no context')),
    });
    await http.get('/').expect(404);
    expect(runner.pendingCount).toBe(0);
    await runner.onIdle();
    expect(log).toEqual([]);
  });

  it('that rejects is logged, and fails nothing', async () => {
    const { http, runner, logs } = await serve((tasks) => void tasks.addTask(() => void log.push('task')), {
      waitUntil: () => Promise.reject(new Error('no platform')),
    });
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(log).toEqual(['task']);
    expect(logs.of('error')).toEqual(['waitUntil failed, and the platform may not wait for the tasks of a request: no platform']);
  });

  it('is not called for a task that is refused', async () => {
    const { http, runner } = await serve(
      (tasks) => {
        tasks.addTask(() => {});
        tasks.addTask(() => {});
      },
      { maxPending: 1 },
    );
    await http.get('/').expect(503);
    await runner.onIdle();
    await setImmediate();
    expect(log).toEqual(['called in the handler', 'over']);
  });

  it('is called under Scope.DEFAULT, and for a unit of work, too', async () => {
    const { runner } = await serve(() => {}, { scope: Scope.DEFAULT });
    await runner.within((tasks) => {
      tasks.addTask(() => {});
      tasks.addTask(() => {});
    });
    await runner.onIdle();
    await setImmediate();
    expect(log).toEqual(['called in undefined', 'over']);
  });
});

describe('at the start on a platform that freezes functions', () => {
  const environment = { ...process.env };

  afterEach(() => {
    process.env = { ...environment };
  });

  async function warnings(variables: NodeJS.ProcessEnv, options?: BackgroundTasksRootOptions): Promise<string[]> {
    Object.assign(process.env, variables);

    @Module({ imports: [BackgroundTasksModule.forRoot(options)] })
    class AppModule {}

    const { logs } = await createApp('Express', AppModule);
    expect(logs).toBeInstanceOf(RecordedLogs);
    return logs.of('warn');
  }

  it.each([
    [{ AWS_LAMBDA_FUNCTION_NAME: 'api' }, 'AWS Lambda'],
    [{ VERCEL: '1' }, 'Vercel'],
    [{ FUNCTION_TARGET: 'api', K_SERVICE: 'api' }, 'Google Cloud Functions'],
    [{ K_SERVICE: 'api' }, 'Google Cloud Run, unless its CPU is always allocated'],
  ])('%j: one warning says what to do', async (variables, platform) => {
    expect(await warnings(variables)).toEqual([
      expect.stringMatching(
        new RegExp(
          `^Background tasks may be delayed or lost here \\(${platform}\\): .*\`waitUntil\` or an \`engine\`.*/docs/serverless.md$`,
        ),
      ),
    ]);
  });

  it('there is no warning elsewhere, or if an option prevents the loss', async () => {
    expect(await warnings({ VERCEL: '1' }, { waitUntil: () => undefined })).toEqual([]);
    delete process.env.VERCEL;
    expect(await warnings({})).toEqual([]);
  });
});
