// Public API: `scope: Scope.DEFAULT`. Guarantees 2 and 6: its singleton follows the request, and tasks outside any request start on the
// next tick.
import { AsyncLocalStorage } from 'node:async_hooks';
import { EventEmitter } from 'node:events';
import { PassThrough } from 'node:stream';
import { beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  type ArgumentsHost,
  Body,
  type CallHandler,
  type CanActivate,
  Catch,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestInterceptor,
  type NestMiddleware,
  type OnApplicationBootstrap,
  Param,
  type PipeTransform,
  Post,
  Query,
  Scope,
  UseGuards,
  VersioningType,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE, ModuleRef } from '@nestjs/core';
import { AuthGuard, PassportStrategy } from '@nestjs/passport';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, isNode24, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

/** The tasks that ran, in order, by request. */
const ran = new Map<string, string[]>();

beforeEach(() => ran.clear());

function record(request: string, who: string): void {
  ran.set(request, [...(ran.get(request) ?? []), who]);
}

/** Adds a task in the name of each building block, to see that it ends up in the list of the right request. */
function join(tasks: BackgroundTasks, request: string, who: string): void {
  tasks.addTask({ name: who, runOn: 'always' }, record, request, who);
}

const idOf = (host: ArgumentsHost): string => host.switchToHttp().getRequest<{ query: { id: string } }>().query.id;

@Injectable()
class Middleware implements NestMiddleware {
  constructor(private readonly tasks: BackgroundTasks) {}
  use(request: { url: string }, _response: unknown, next: () => void) {
    join(this.tasks, new URL(request.url, 'http://localhost').searchParams.get('id')!, 'middleware');
    next();
  }
}

@Injectable()
class Guard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}
  async canActivate(context: ExecutionContext) {
    await Promise.resolve();
    join(this.tasks, idOf(context), 'guard');
    return true;
  }
}

@Injectable()
class Interceptor implements NestInterceptor {
  constructor(private readonly tasks: BackgroundTasks) {}
  intercept(context: ExecutionContext, next: CallHandler) {
    join(this.tasks, idOf(context), 'interceptor');
    return next.handle();
  }
}

@Injectable()
class Pipe implements PipeTransform {
  constructor(private readonly tasks: BackgroundTasks) {}
  transform(value: unknown, { data }: { data?: string | undefined }) {
    if (data === 'id') join(this.tasks, String(value), 'pipe');
    return value;
  }
}

class Teapot extends Error {}

@Injectable()
@Catch(Teapot)
class Filter implements ExceptionFilter {
  constructor(private readonly tasks: BackgroundTasks) {}
  catch(_: Error, host: ArgumentsHost) {
    join(this.tasks, idOf(host), 'filter');
    host.switchToHttp().getResponse<{ status(code: number): { send(body: string): void } }>().status(418).send('teapot');
  }
}

/** As a Passport package exports one: Passport adds `success` and `fail` to what it calls `authenticate` on. */
abstract class QueryStrategyBase {
  readonly name = 'query';
  constructor(private readonly verify: (id: string, done: (error: unknown, user: unknown) => void) => void) {}
  declare success: (user: unknown) => void;
  declare error: (error: unknown) => void;
  authenticate(request: { query: { id: string } }) {
    this.verify(request.query.id, (error, user) => (error ? this.error(error) : this.success(user)));
  }
}

class QueryStrategyClass extends QueryStrategyBase {}

@Injectable()
class QueryStrategy extends PassportStrategy(QueryStrategyClass) {
  constructor(private readonly tasks: BackgroundTasks) {
    super();
  }
  async validate(id: string) {
    await Promise.resolve();
    join(this.tasks, id, 'passport strategy');
    return { id };
  }
}

@Injectable()
class DeepService {
  constructor(private readonly tasks: BackgroundTasks) {}
  join(id: string) {
    join(this.tasks, id, 'service');
  }
}

@Injectable()
class Service {
  constructor(readonly deep: DeepService) {}
}

let controllers = 0;

@Controller()
class EverythingController {
  constructor(
    private readonly service: Service,
    private readonly tasks: BackgroundTasks,
  ) {
    controllers += 1;
  }

  @Get(['', 'everything/:end'])
  @UseGuards(AuthGuard('query'))
  everything(@Query('id') id: string, @BackgroundTasks() tasks: BackgroundTasks, @Param('end') end?: string) {
    return this.answer(id, tasks, end);
  }

  private async answer(id: string, tasks: BackgroundTasks, end?: string) {
    await new Promise(setImmediate);
    this.service.deep.join(id);
    join(this.tasks, id, 'controller');
    join(tasks, id, 'parameter');
    if (end === 'teapot') throw new Teapot();
    expect(this.tasks.tasks).toEqual(tasks.tasks);
    return this.tasks.tasks.map((task) => task.name);
  }
}

@Module({
  controllers: [EverythingController],
  providers: [
    Service,
    DeepService,
    QueryStrategy,
    { provide: APP_GUARD, useClass: Guard },
    { provide: APP_INTERCEPTOR, useClass: Interceptor },
    { provide: APP_PIPE, useClass: Pipe },
    { provide: APP_FILTER, useClass: Filter },
  ],
})
class FeatureModule {
  configure(consumer: MiddlewareConsumer) {
    consumer.apply(Middleware).forRoutes('{*path}');
  }
}

@Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT }), FeatureModule] })
class EverythingModule {}

const everybody = ['middleware', 'guard', 'passport strategy', 'interceptor', 'pipe', 'service', 'controller', 'parameter'];

describe.each(platforms)('forRoot({ scope: Scope.DEFAULT }) on %s', (platform) => {
  it('everything of a request reaches its one list, and nothing becomes request-scoped', async () => {
    controllers = 0;
    const { app, http, runner } = await createApp(platform, EverythingModule);
    for (const id of ['first', 'second']) {
      const response = await http.get(`/everything/well?id=${id}`).expect(200);
      expect(response.body).toEqual(everybody);
      await runner.onIdle();
      expect(ran.get(id)).toEqual(everybody);
    }
    expect(controllers).toBe(1);
    expect(app.get(ModuleRef).introspect(EverythingController).scope).toBe(Scope.DEFAULT);
    expect(app.get(BackgroundTasks)).toBeInstanceOf(BackgroundTasks);
  });

  it('the exception filter that answers adds to the one list of the request', async () => {
    const { http, runner } = await createApp(platform, EverythingModule);
    await http.get('/everything/teapot?id=teapot').expect(418, 'teapot');
    await runner.onIdle();
    expect(ran.get('teapot')).toEqual([...everybody, 'filter']);
  });

  it('reading a body that comes in pieces does not lose the request', async () => {
    const started = gate();

    @Controller()
    class BodyController {
      constructor(private readonly tasks: BackgroundTasks) {}
      @Post()
      post(@Body() body: { text: string }) {
        join(this.tasks, 'posted', 'controller');
        return [body.text.length, this.tasks.tasks.length];
      }
    }

    @Injectable()
    class Starter implements NestMiddleware {
      use(_request: unknown, _response: unknown, next: () => void) {
        next();
        started.open();
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })], controllers: [BodyController] })
    class BodyModule {
      configure(consumer: MiddlewareConsumer) {
        // Express reads bodies before Nest's middleware runs, Fastify after it.
        if (platform === 'Fastify') consumer.apply(Starter).forRoutes('{*path}');
        else started.open();
      }
    }

    const { url, runner } = await createApp(platform, BodyModule);
    const body = (async function* () {
      yield Buffer.from('{"text":"');
      await started.opened;
      yield Buffer.from('x"}');
    })();
    const response = await fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body, duplex: 'half' });
    expect(await response.json()).toEqual([1, 1]);
    await runner.onIdle();
    expect(ran.get('posted')).toEqual(['controller']);
  });

  it('everything of a request to / reaches its one list', async () => {
    const { http } = await createApp(platform, EverythingModule);
    const response = await http.get('/?id=root').expect(200);
    expect(response.body).toEqual(everybody);
  });

  it.each<[string, string, NonNullable<Parameters<typeof createApp>[2]>['configure']]>([
    ['a global prefix', '/api/everything/well', (app) => app.setGlobalPrefix('api')],
    ['versions in the path', '/v1/everything/well', (app) => app.enableVersioning({ type: VersioningType.URI, defaultVersion: '1' })],
  ])('everything of a request reaches its one list with %s', async (_, path, configure) => {
    const { http, runner } = await createApp(platform, EverythingModule, { configure: configure! });
    const response = await http.get(`${path}?id=moved`).expect(200);
    expect(response.body).toEqual(everybody);
    await runner.onIdle();
    expect(ran.get('moved')).toEqual(everybody);
  });

  it('everything of a request reaches its one list with a controller for one host', async () => {
    @Controller({ host: 'admin.localhost' })
    class HostController {
      constructor(private readonly service: Service) {}
      @Get('hosted')
      get(@Query('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
        this.service.deep.join(id);
        return tasks.tasks.map((task) => task.name);
      }
    }

    @Module({
      imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
      controllers: [HostController],
      providers: [Service, DeepService],
    })
    class HostModule {}

    const { http, runner } = await createApp(platform, HostModule);
    await http.get('/hosted?id=hosted').set('Host', 'admin.localhost').expect(200, ['service']);
    await runner.onIdle();
    expect(ran.get('hosted')).toEqual(['service']);
  });

  it('a task starts after the response, and only if the request succeeded', async () => {
    const answered: string[] = [];

    @Controller()
    class OutcomeController {
      constructor(private readonly tasks: BackgroundTasks) {}
      @Get(':end')
      get(@Param('end') end: string) {
        this.tasks.addTask((at: string) => answered.push(`task of ${at}`), end);
        if (end === 'badly') throw new Error('the handler fails');
        answered.push(`handler of ${end}`);
        return 'answered';
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })], controllers: [OutcomeController] })
    class OutcomeModule {}

    const { http, runner } = await createApp(platform, OutcomeModule);
    await http.get('/well').expect(200, 'answered');
    await http.get('/badly').expect(500);
    await runner.onIdle();
    expect(answered).toEqual(['handler of well', 'task of well']);
    expect(runner.discardedCount).toBe(1);
  });

  it('200 concurrent requests never mix, also through what was made before them', async () => {
    const emitter = new EventEmitter();
    const beforeAll = gate();

    @Injectable()
    class Detours implements OnApplicationBootstrap {
      constructor(private readonly tasks: BackgroundTasks) {}
      onApplicationBootstrap() {
        emitter.removeAllListeners().on('ping', (request: string) => join(this.tasks, request, 'event emitter'));
      }
      async take(request: string) {
        await beforeAll.opened;
        join(this.tasks, request, 'promise made before');
        await new Promise<void>((resolve) => setTimeout(resolve, Number(request) % 5));
        join(this.tasks, request, 'timer');
        const stream = new PassThrough();
        stream.on('data', () => join(this.tasks, request, 'stream'));
        stream.end('x');
        await new Promise((resolve) => stream.once('end', resolve));
        emitter.emit('ping', request);
        queueMicrotask(() => join(this.tasks, request, 'microtask'));
        await new Promise((resolve) => process.nextTick(resolve));
      }
    }

    @Controller()
    class DetourController {
      constructor(private readonly detours: Detours) {}
      @Get()
      async get(@Query('id') request: string, @BackgroundTasks() tasks: BackgroundTasks) {
        await this.detours.take(request);
        return tasks.tasks.map((task) => [task.name, task.args[0]]);
      }
    }

    @Module({
      imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
      controllers: [DetourController],
      providers: [Detours],
    })
    class DetourModule {}

    const { url, runner } = await createApp(platform, DetourModule);
    const ids = Array.from({ length: 200 }, (_, index) => `${index}`);
    const answers = ids.map(async (request) => (await fetch(`${url}/?id=${request}`)).json() as Promise<[string, string][]>);
    beforeAll.open();
    const detours = ['promise made before', 'timer', 'stream', 'event emitter', 'microtask'];
    for (const [index, answer] of (await Promise.all(answers)).entries()) expect(answer).toEqual(detours.map((who) => [who, ids[index]]));
    await runner.onIdle();
    for (const request of ids) expect(ran.get(request)).toEqual(detours);
  });
});

describe.each(platforms)('overrideProvider(BackgroundTasks) under Scope.DEFAULT on %s', (platform) => {
  @Controller()
  class OverriddenController {
    constructor(private readonly service: Service) {}
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      join(tasks, 'overridden', 'parameter');
      this.service.deep.join('overridden');
      return 'answered';
    }
  }

  @Module({
    imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
    controllers: [OverriddenController],
    providers: [Service, DeepService],
  })
  class OverriddenModule {}

  it('useValue: injection and decorator hand out the list made by hand, and nothing runs until the test says so', async () => {
    const list = new BackgroundTasks();
    const { http, runner } = await createApp(platform, OverriddenModule, {
      build: (builder) => builder.overrideProvider(BackgroundTasks).useValue(list),
    });
    await http.get('/').expect(200, 'answered');
    await runner.onIdle();
    expect(list.tasks.map((task) => task.name)).toEqual(['parameter', 'service']);
    expect(ran.size).toBe(0);
    await list.run();
    expect(ran.get('overridden')).toEqual(['parameter', 'service']);
  });
});

describe('outside any request, under Scope.DEFAULT', () => {
  @Injectable()
  class Cron implements OnApplicationBootstrap {
    constructor(readonly tasks: BackgroundTasks) {}
    onApplicationBootstrap() {
      join(this.tasks, 'outside', 'bootstrap');
    }
  }

  @Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })], providers: [Cron] })
  class CronModule {}

  it('a task starts on the next tick, tracked', async () => {
    const { app, runner } = await createApp('Express', CronModule);
    await runner.onIdle();
    expect(ran.get('outside')).toEqual(['bootstrap']);
    const { tasks } = app.get(Cron);
    join(tasks, 'outside', 'cron');
    expect(ran.get('outside')).toEqual(['bootstrap']);
    expect(runner.pendingCount).toBe(1);
    await runner.onIdle();
    expect(ran.get('outside')).toEqual(['bootstrap', 'cron']);
    expect(tasks.tasks).toEqual([]);
    await expect(tasks.run()).rejects.toMatchObject({ code: 'BACKGROUND_TASK_LIST_OF_A_REQUEST' });
  });

  it('no task waits for another', async () => {
    const { app, runner } = await createApp('Express', CronModule);
    const { tasks } = app.get(Cron);
    const first = gate();
    const second = gate();
    tasks.addTask(async () => first.opened);
    tasks.addTask(() => second.open());
    await second.opened;
    expect(runner.activeCount).toBe(1);
    first.open();
    await runner.onIdle();
  });

  it('a failure is logged, and app.close() waits for what runs', async () => {
    const { app, runner, logs } = await createApp('Express', CronModule);
    const { tasks } = app.get(Cron);
    const started = gate();
    const held = gate();
    tasks.addTask({ name: 'fails' }, () => {
      throw new Error('the cron task fails');
    });
    tasks.addTask(async () => {
      started.open();
      await held.opened;
      record('outside', 'held');
    });
    await started.opened;
    const closed = app.close();
    held.open();
    await closed;
    expect(runner.activeCount).toBe(0);
    expect(ran.get('outside')).toContain('held');
    expect(logs.of('error')).toEqual(['Background task "fails" failed: the cron task fails']);
  });
});

describe('the option scope', () => {
  @Injectable()
  class Singleton {
    constructor(readonly tasks: BackgroundTasks) {}
  }

  const appWith = (...imports: NonNullable<Parameters<typeof Module>[0]['imports']>) => {
    @Module({ imports, providers: [Singleton] })
    class AppModule {}
    return AppModule;
  };

  it('is taken by forRootAsync, beside the factory', async () => {
    const { app } = await createApp(
      'Express',
      appWith(BackgroundTasksModule.forRootAsync({ scope: Scope.DEFAULT, useFactory: () => ({ concurrency: 2 }) })),
    );
    expect(app.get(Singleton).tasks).toBeInstanceOf(BackgroundTasks);
  });

  it('works together with isGlobal: false', async () => {
    const { app } = await createApp('Express', appWith(BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT, isGlobal: false })));
    expect(app.get(Singleton).tasks).toBeInstanceOf(BackgroundTasks);
  });

  it('is Scope.REQUEST by default, which enters an AsyncLocalStorage only on Node 24 and later, for the current task', async () => {
    const run = jest.spyOn(AsyncLocalStorage.prototype, 'run');
    const enterWith = jest.spyOn(AsyncLocalStorage.prototype, 'enterWith');

    @Controller()
    class PlainController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        join(tasks, 'plain', 'parameter');
        return 'answered';
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ scope: undefined })], controllers: [PlainController] })
    class PlainModule {}

    for (const platform of platforms) {
      const { app, http, runner } = await createApp(platform, PlainModule);
      expect(app.get(ModuleRef).introspect(BackgroundTasks).scope).toBe(Scope.REQUEST);
      await http.get('/').expect(200, 'answered');
      await runner.onIdle();
    }
    expect(ran.get('plain')).toEqual(['parameter', 'parameter']);
    // A call with `undefined` leaves the store.
    const stores = [...run.mock.calls, ...enterWith.mock.calls].map(([store]) => store).filter((store) => store !== undefined);
    const entered = stores.map((store) => (store instanceof BackgroundTask ? 'task' : store));
    expect(new Set(entered)).toEqual(new Set(isNode24 ? ['task'] : []));
    jest.restoreAllMocks();
  });

  it('refuses Scope.TRANSIENT', () => {
    const scope: Scope = Scope.TRANSIENT;
    expect(() => BackgroundTasksModule.forRoot({ scope: scope as Scope.DEFAULT })).toThrow(
      expect.objectContaining({
        code: 'BACKGROUND_TASK_INVALID_OPTION',
        message: 'Expected the option `scope` of BackgroundTasksModule to be Scope.REQUEST or Scope.DEFAULT, got `1` (number)',
      }),
    );
  });
});
