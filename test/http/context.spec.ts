// Guarantee 7: a task runs in the async context of the code that added it: nestjs-cls, AsyncLocalStorage, OpenTelemetry.
import { AsyncLocalStorage } from 'node:async_hooks';
import { execFile } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  type CallHandler,
  type CanActivate,
  Controller,
  type ExecutionContext,
  Get,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestInterceptor,
  Param,
  Query,
  Scope,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { trace } from '@opentelemetry/api';
import { NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { type BackgroundTaskDiscardMessage, BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { Observable } from 'rxjs';
import { createApp, isNest12, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

let seen: unknown[];

beforeEach(() => {
  seen = [];
});

const scopes = [
  ['Scope.REQUEST', BackgroundTasksModule],
  ['Scope.DEFAULT', BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
] as const;

describe('nestjs-cls', () => {
  let cases: { mount: string; platform: string; scope: string; seen: string[] }[];

  beforeAll(async () => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import', './test/support/typescript.js', './test/support/cls.app.ts'],
      { env: { ...process.env, NODE_OPTIONS: '', NEST: isNest12 ? '12' : '11' } },
    );
    cases = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
  });

  describe.each(platforms)('on %s', (platform) => {
    describe.each(scopes)('with %s', (scope, _tasksModule) => {
      it.each(['middleware', 'guard', 'interceptor', '@UseCls'])('mounted by %s: a task sees the store of its request', (mount) => {
        expect(cases).toContainEqual({ mount, platform, scope, seen: ['ann, same id', 'bob, same id'] });
      });
    });
  });
});

describe.each(platforms)('an AsyncLocalStorage on %s', (platform) => {
  const storage = new AsyncLocalStorage<string>();

  @Injectable()
  class Guard implements CanActivate {
    canActivate() {
      storage.enterWith('guard');
      return true;
    }
  }

  @Injectable()
  class Interceptor implements NestInterceptor {
    intercept(_: ExecutionContext, next: CallHandler) {
      return new Observable((subscriber) => storage.run('interceptor', () => next.handle().subscribe(subscriber)));
    }
  }

  describe.each(scopes)('with %s', (_scope, tasksModule) => {
    @Injectable()
    class Service {
      constructor(private readonly tasks: BackgroundTasks) {}
      async add() {
        await new Promise(setImmediate);
        this.tasks.addTask(async () => {
          await Promise.resolve();
          seen.push(storage.getStore());
        });
      }
    }

    @Controller()
    class StoreController {
      constructor(private readonly service: Service) {}

      @Get('middleware')
      middleware() {
        return this.service.add();
      }

      @Get('guard')
      @UseGuards(Guard)
      guard() {
        return this.service.add();
      }

      @Get('interceptor')
      @UseInterceptors(Interceptor)
      interceptor() {
        return this.service.add();
      }

      @Get('handler')
      handler() {
        return storage.run('handler', () => this.service.add());
      }
    }

    @Module({ imports: [tasksModule], controllers: [StoreController], providers: [Service] })
    class StoreModule {
      configure(consumer: MiddlewareConsumer) {
        consumer.apply((_request: unknown, _response: unknown, next: () => void) => storage.run('middleware', next)).forRoutes('{*path}');
      }
    }

    it.each(['middleware', 'guard', 'interceptor', 'handler'])('entered in the %s: a task sees what its request entered', async (where) => {
      const { http, runner } = await createApp(platform, StoreModule);
      await http.get(`/${where}`).expect(200);
      await runner.onIdle();
      expect(seen).toEqual([where]);
    });
  });
});

describe.each(platforms)('a query that starts when it is awaited, as those of ORMs, on %s', (platform) => {
  const storage = new AsyncLocalStorage<string>();
  /** Opens when all requests have their answers, so that the end of one task makes room for the next. */
  let answered = gate();
  const query = (name: string): PromiseLike<void> => ({
    then: (...handlers: Parameters<Promise<void>['then']>) => {
      seen.push(`${name} in ${storage.getStore()}`);
      return answered.opened.then(...handlers) as never;
    },
  });

  @Controller()
  class QueryController {
    @Get(':id')
    get(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(() => query(id));
    }
  }

  it.each([1, Infinity])('runs in the context of its own task, with `concurrency: %d`', async (concurrency) => {
    @Module({ imports: [BackgroundTasksModule.forRoot({ concurrency })], controllers: [QueryController] })
    class QueryModule {
      configure(consumer: MiddlewareConsumer) {
        consumer
          .apply(({ originalUrl }: { originalUrl: string }, _response: unknown, next: () => void) => storage.run(originalUrl, next))
          .forRoutes('{*path}');
      }
    }
    const { http, runner } = await createApp(platform, QueryModule);
    answered = gate();
    await Promise.all(['a', 'b', 'c'].map((id) => http.get(`/${id}`).expect(200)));
    answered.open();
    await runner.onIdle();
    expect(new Set(seen)).toEqual(new Set(['a in /a', 'b in /b', 'c in /c']));
  });

  it('belongs to the call of within() that returns it', async () => {
    @Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })] })
    class WithinModule {}
    const { app, runner } = await createApp(platform, WithinModule);
    const tasks = app.get<BackgroundTasks>(BackgroundTasks);
    const fails: PromiseLike<void> = {
      then: (...handlers: Parameters<Promise<void>['then']>) => {
        tasks.addTask(() => seen.push('ran'));
        return Promise.reject<void>(new Error('no such row')).then(...handlers) as never;
      },
    };
    await expect(runner.within(() => fails)).rejects.toThrow('no such row');
    await runner.onIdle();
    expect(seen).toEqual([]);
  });
});

describe.each(platforms)('a task that another one waits for on %s', (platform) => {
  const storage = new AsyncLocalStorage<string>();
  const busy = gate();
  const events: string[] = [];
  const record = (what: string) => events.push(`${what} in ${storage.getStore()}`);
  const see = (message: unknown) => record(`${(message as BackgroundTaskDiscardMessage).task.name} discarded`);

  @Controller()
  class BusyController {
    @Get('busy')
    busy(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(() => busy.opened);
    }

    @Get(':id')
    get(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: id, runOn: 'failure' }, () => {});
      tasks.addTask({ timeout: 1 }, () => {
        currentTask()!.signal.addEventListener('abort', () => record(`${id} aborted`));
        return new Promise(() => {});
      });
    }
  }

  @Module({ imports: [BackgroundTasksModule.forRoot({ concurrency: 1 })], controllers: [BusyController] })
  class BusyModule {
    configure(consumer: MiddlewareConsumer) {
      consumer
        .apply(({ originalUrl }: { originalUrl: string }, _response: unknown, next: () => void) => storage.run(originalUrl, next))
        .forRoutes('{*path}');
    }
  }

  beforeAll(() => subscribe('tracing:nestjs-background-tasks:task:discard', see));
  afterAll(() => void unsubscribe('tracing:nestjs-background-tasks:task:discard', see));

  it('is discarded, and its signal fires, in its own context', async () => {
    const { http, runner } = await createApp(platform, BusyModule);
    await http.get('/busy').expect(200);
    await http.get('/a').expect(200);
    await http.get('/b').expect(200);
    busy.open();
    await runner.onIdle();
    expect(events.splice(0).sort()).toEqual(['a aborted in /a', 'a discarded in /a', 'b aborted in /b', 'b discarded in /b']);
  });
});

describe.each(platforms)("OpenTelemetry's active span on %s", (platform) => {
  const provider = new NodeTracerProvider();

  beforeAll(() => provider.register());
  afterAll(() => provider.shutdown());

  it.each(scopes)('is that of the code that added the task, with %s', async (_scope, tasksModule) => {
    @Injectable()
    class Service {
      constructor(private readonly tasks: BackgroundTasks) {}
      async add(name: string) {
        await trace.getTracer('test').startActiveSpan(name, async (span) => {
          await new Promise(setImmediate);
          this.tasks.addTask(async () => {
            await Promise.resolve();
            seen.push([name, trace.getActiveSpan() === span]);
          });
          span.end();
        });
      }
    }

    @Controller()
    class SpanController {
      constructor(private readonly service: Service) {}
      @Get(':name')
      async get(@Param('name') name: string, @Query() _query: object, @BackgroundTasks() tasks: BackgroundTasks) {
        await this.service.add(`${name} 1`);
        await this.service.add(`${name} 2`);
        tasks.addTask(() => seen.push([name, trace.getActiveSpan()]));
      }
    }

    @Module({ imports: [tasksModule], controllers: [SpanController], providers: [Service] })
    class SpanModule {}

    const { http, runner } = await createApp(platform, SpanModule);
    await http.get('/order').expect(200);
    await runner.onIdle();
    expect(seen).toEqual([
      ['order 1', true],
      ['order 2', true],
      ['order', undefined],
    ]);
  });
});
