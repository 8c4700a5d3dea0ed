// Guarantees 1 to 8, each in its plainest form.
import { AsyncLocalStorage } from 'node:async_hooks';
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
  BadRequestException,
  type CallHandler,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  type INestApplication,
  Injectable,
  Module,
  type NestInterceptor,
  type OnModuleDestroy,
  Param,
  ParseIntPipe,
  Res,
  UseInterceptors,
} from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner, currentTask } from 'nestjs-background-tasks';
import { map } from 'rxjs';
import { createApp, isNode24, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

let log: string[];
let gates: { task: Gate; handler: Gate };

beforeEach(() => {
  log = [];
  gates = { task: gate(), handler: gate() };
});

describe.each(platforms)('tasks on %s', (platform) => {
  describe('start when the response is over, and end without the client', () => {
    @Controller()
    class SlowTaskController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(async () => {
          log.push('task started');
          await gates.task.opened;
          log.push('task ended');
        });
        return 'answered';
      }
    }

    @Injectable()
    class Database implements OnModuleDestroy {
      onModuleDestroy() {
        log.push('database disconnected');
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [SlowTaskController], providers: [Database] })
    class SlowTaskModule {}

    it('the client has its whole answer while the task still runs', async () => {
      const { http, runner } = await createApp(platform, SlowTaskModule);
      await http.get('/').expect(200, 'answered');
      log.push('client answered');
      gates.task.open();
      await runner.onIdle();
      expect(log.toSorted()).toEqual(['client answered', 'task ended', 'task started']);
      expect(log.at(-1)).toBe('task ended');
    });

    it('activeCount and pendingCount follow the task', async () => {
      const { http, runner } = await createApp(platform, SlowTaskModule);
      expect([runner.pendingCount, runner.activeCount]).toEqual([0, 0]);
      await http.get('/').expect(200);
      expect(runner.pendingCount + runner.activeCount).toBe(1);
      gates.task.open();
      await runner.onIdle();
      expect([runner.pendingCount, runner.activeCount]).toEqual([0, 0]);
    });

    it('app.close() waits for it, before the providers of the application are destroyed', async () => {
      const { http, app } = await createApp(platform, SlowTaskModule);
      await http.get('/').expect(200);
      const closed = app.close().then(() => log.push('closed'));
      // All that close() does without waiting is done when the event loop has turned.
      await new Promise((resolve) => setImmediate(resolve));
      gates.task.open();
      await closed;
      expect(log).toEqual(['task started', 'task ended', 'database disconnected', 'closed']);
    });
  });

  describe('wait for the handler and for every interceptor', () => {
    class Outer implements NestInterceptor {
      intercept(_: ExecutionContext, next: CallHandler) {
        return next.handle().pipe(
          map(async (value) => {
            await gates.handler.opened;
            log.push('outer interceptor');
            return value;
          }),
        );
      }
    }

    @Controller()
    class SentEarlyController {
      @Get()
      async get(@BackgroundTasks() tasks: BackgroundTasks, @Res() response: { send(body: string): void }) {
        tasks.addTask(() => log.push('task'));
        response.send('answered');
        await gates.handler.opened;
        log.push('handler');
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [SentEarlyController] })
    class SentEarlyModule {}

    it('although the response is over', async () => {
      const { http, runner } = await createApp(platform, SentEarlyModule);
      await http.get('/').expect(200, 'answered');
      expect(runner.pendingCount).toBe(1);
      gates.handler.open();
      await runner.onIdle();
      expect(log).toEqual(['handler', 'task']);
    });

    it('global interceptors of the application run inside of the one of this package, and settle first', async () => {
      @Controller()
      class PlainController {
        @Get()
        get(@BackgroundTasks() tasks: BackgroundTasks) {
          tasks.addTask(() => log.push('task'));
          return 'answered';
        }
      }
      @Module({ imports: [BackgroundTasksModule], controllers: [PlainController] })
      class PlainModule {}
      const { http, runner } = await createApp(platform, PlainModule, {
        configure: (app: INestApplication) => app.useGlobalInterceptors(new Outer()),
      });
      gates.handler.open();
      await http.get('/').expect(200, 'answered');
      await runner.onIdle();
      expect(log).toEqual(['outer interceptor', 'task']);
    });
  });

  describe('run in order, each one to its end', () => {
    @Controller()
    class OrderController {
      @Get('order')
      order(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(async (name: string) => {
          log.push(`${name} started`);
          await new Promise((resolve) => setImmediate(resolve));
          log.push(`${name} ended`);
        }, 'async');
        tasks.addTask((name: string) => log.push(name), 'sync');
        tasks.addTask({ name: 'thenable' }, () => ({
          then: (resolve: () => void) => {
            log.push('thenable');
            resolve();
          },
        }));
        tasks.addTask(() => log.push('last'));
      }

      @Get('nested')
      nested(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(() => {
          log.push('first');
          tasks.addTask(() => {
            log.push('added by first');
            tasks.addTask(() => log.push('added by added'));
          });
        });
        tasks.addTask(() => log.push('second'));
      }

      @Get('current')
      current(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ name: 'named' }, async () => {
          const task = currentTask();
          log.push(`${task?.name} ${task instanceof BackgroundTask} ${task?.signal.aborted}`);
          await Promise.resolve();
          log.push(`after await: ${currentTask()?.name}`);
        });
        tasks.addTask(function byFunctionName() {
          log.push(`${currentTask()?.name}`);
        });
        log.push(`handler: ${currentTask()?.name}`);
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [OrderController] })
    class OrderModule {}

    it('sync and async, each awaited', async () => {
      const { http, runner } = await createApp(platform, OrderModule);
      await http.get('/order').expect(200);
      await runner.onIdle();
      expect(log).toEqual(['async started', 'async ended', 'sync', 'thenable', 'last']);
    });

    it('a task that adds tasks extends the list', async () => {
      const { http, runner, logs } = await createApp(platform, OrderModule);
      await http.get('/nested').expect(200);
      await runner.onIdle();
      expect(log).toEqual(['first', 'second', 'added by first', 'added by added']);
      expect(logs.lines).toEqual([]);
    });

    it('currentTask() is the task that runs: to its end on Node 24 and later, up to its first await before', async () => {
      const { http, runner } = await createApp(platform, OrderModule);
      await http.get('/current').expect(200);
      await runner.onIdle();
      expect(log).toEqual(['handler: undefined', 'named true false', `after await: ${isNode24 ? 'named' : undefined}`, 'byFunctionName']);
    });
  });

  describe('fail alone', () => {
    @Controller()
    class FailingController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(function throws(_secret: string) {
          throw new Error('thrown');
        }, 'secret argument');
        tasks.addTask({ name: 'rejects' }, async () => Promise.reject(new TypeError('rejected')));
        tasks.addTask(() => log.push('sibling'));
        return 'answered';
      }
    }

    @Module({
      imports: [BackgroundTasksModule.forRoot({ onError: (error, task) => log.push(`onError ${task.name}: ${(error as Error).message}`) })],
      controllers: [FailingController],
    })
    class FailingModule {}

    it('each is logged with its name and stack and handed to onError, and its sibling runs', async () => {
      const { http, runner, logs } = await createApp(platform, FailingModule);
      await http.get('/').expect(200, 'answered');
      await runner.onIdle();
      expect(log).toEqual(['onError throws: thrown', 'onError rejects: rejected', 'sibling']);
      expect(logs.lines).toEqual([
        { level: 'error', message: 'Background task "throws" failed: thrown', stack: expect.stringMatching(/^Error: thrown\n +at throws/) },
        { level: 'error', message: 'Background task "rejects" failed: rejected', stack: expect.stringMatching(/^TypeError: rejected\n/) },
      ]);
      expect(JSON.stringify(logs.lines)).not.toContain('secret argument');
    });
  });

  describe('that run on success are discarded when the request fails', () => {
    class Throws implements NestInterceptor {
      intercept(_: ExecutionContext, next: CallHandler) {
        return next.handle().pipe(
          map(() => {
            throw new BadRequestException();
          }),
        );
      }
    }

    class AnswersWell implements ExceptionFilter {
      catch(_: unknown, host: ArgumentsHost) {
        host.switchToHttp().getResponse<{ status(code: number): { send(body: string): void } }>().status(200).send('well');
      }
    }

    @Controller()
    class FailingRequestController {
      constructor(private readonly tasks: BackgroundTasks) {}

      @Get('handler')
      handler() {
        this.#add();
        throw new BadRequestException();
      }

      @Get('interceptor')
      @UseInterceptors(Throws)
      interceptor() {
        this.#add();
      }

      @Get('pipe/:id')
      pipe(@Param('id', new ParseIntPipe()) _id: number) {
        this.#add();
      }

      @Get('well')
      well() {
        this.#add();
      }

      #add(): void {
        this.tasks.addTask({ name: 'on success' }, () => log.push('on success'));
        this.tasks.addTask({ name: 'on failure', runOn: 'failure' }, () => log.push('on failure'));
        this.tasks.addTask({ name: 'always', runOn: 'always' }, () => log.push('always'));
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [FailingRequestController] })
    class FailingRequestModule {}

    it.each(['handler', 'interceptor'])('by an exception in the %s', async (where) => {
      const { http, runner, logs } = await createApp(platform, FailingRequestModule);
      await http.get(`/${where}`).expect(400);
      await runner.onIdle();
      expect(log).toEqual(['on failure', 'always']);
      expect(logs.lines).toEqual([
        {
          level: 'debug',
          message: 'Background task "on success" was discarded: it runs on success, and the outcome of its request was failure',
          stack: undefined,
        },
      ]);
      expect(runner.discardedCount).toBe(1);
    });

    it.each(['handler', 'interceptor', 'well'])('also if a filter answers 200 for the exception: %s', async (where) => {
      const { http, runner } = await createApp(platform, FailingRequestModule, {
        configure: (app) => app.useGlobalFilters(new AnswersWell()).useGlobalInterceptors(...(where === 'well' ? [new Throws()] : [])),
      });
      await http.get(`/${where}`).expect(200, 'well');
      await runner.onIdle();
      expect(log).toEqual(['on failure', 'always']);
    });

    it('by an exception in a pipe, before the handler', async () => {
      const { http, runner } = await createApp(platform, FailingRequestModule);
      await http.get('/pipe/not-a-number').expect(400);
      await runner.onIdle();
      expect(log).toEqual([]);
    });

    it('and those that run on failure when it succeeds', async () => {
      const { http, runner, logs } = await createApp(platform, FailingRequestModule);
      await http.get('/well').expect(200);
      await runner.onIdle();
      expect(log).toEqual(['on success', 'always']);
      expect(logs.of('debug')).toEqual([
        'Background task "on failure" was discarded: it runs on failure, and the outcome of its request was success',
      ]);
    });
  });

  describe('see the async context of the code that added them', () => {
    const storage = new AsyncLocalStorage<string>();

    @Controller()
    class ContextController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        storage.run('first', () => tasks.addTask(() => log.push(`${storage.getStore()}`)));
        storage.run('second', () => tasks.addTask(async () => log.push(`${await Promise.resolve(storage.getStore())}`)));
        tasks.addTask(() => log.push(`${storage.getStore()}`));
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [ContextController] })
    class ContextModule {}

    it('each its own', async () => {
      const { http, runner } = await createApp(platform, ContextModule);
      await http.get('/').expect(200);
      await runner.onIdle();
      expect(log).toEqual(['first', 'second', 'undefined']);
    });
  });

  describe('that are bad input', () => {
    let caught: unknown;

    @Controller()
    class BadInputController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(() => log.push('good task'));
        try {
          // @ts-expect-error: what a JavaScript caller may pass.
          tasks.addTask('not a function');
        } catch (error) {
          caught = error;
        }
        return tasks.tasks.length;
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [BadInputController] })
    class BadInputModule {}

    it('are refused in addTask, and nothing else is lost', async () => {
      const { http, runner } = await createApp(platform, BadInputModule);
      await http.get('/').expect(200, '1');
      await runner.onIdle();
      expect(log).toEqual(['good task']);
      expect(caught).toMatchObject({ code: 'BACKGROUND_TASK_INVALID_TASK' });
    });
  });

  describe('of a request', () => {
    @Controller()
    class RunController {
      @Get()
      async get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(() => log.push('task'));
        return tasks.run().catch((error: Error) => error.message);
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [RunController] })
    class RunModule {}

    it('cannot be run by hand: they would run twice', async () => {
      const { http, runner } = await createApp(platform, RunModule);
      const { text } = await http.get('/').expect(200);
      expect(text).toBe(
        'The list of a request runs by itself after the response; `run()` is for a list made by hand with `new BackgroundTasks()`',
      );
      await runner.onIdle();
      expect(log).toEqual(['task']);
    });
  });
});

describe('BackgroundTasksRunner', () => {
  it('is idle from the start', async () => {
    const runner = new BackgroundTasksRunner();
    await runner.onIdle();
    expect([runner.activeCount, runner.pendingCount, runner.discardedCount]).toEqual([0, 0, 0]);
  });
});
