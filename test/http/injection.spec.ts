// Guarantee 2: one list per request, shared by everything in it, and by no other request.
import http from 'node:http';
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
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
  Param,
  type PipeTransform,
  Query,
  Req,
  Scope,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
  ValidationPipe,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE, ContextIdFactory, ModuleRef } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, isNest12, platforms } from '../support/app.js';

/** The tasks that ran, in order, by request. */
const ran = new Map<string, string[]>();

beforeEach(() => ran.clear());

function record(request: string, who: string): void {
  ran.set(request, [...(ran.get(request) ?? []), who]);
}

/** Adds a task in the name of each building block, to see that it ends up in the one list. */
function join(tasks: BackgroundTasks, request: string, who: string): void {
  tasks.addTask({ name: who, runOn: 'always' }, record, request, who);
}

const requestOf = (context: ArgumentsHost): string => context.switchToHttp().getRequest<{ query: { id: string } }>().query.id;

@Injectable()
class Middleware implements NestMiddleware {
  constructor(private readonly tasks: BackgroundTasks) {}
  use(request: http.IncomingMessage, _response: unknown, next: () => void) {
    join(this.tasks, new URL(request.url!, 'http://localhost').searchParams.get('id')!, 'middleware');
    next();
  }
}

class Guard implements CanActivate {
  constructor(
    private readonly who: string,
    private readonly tasks: BackgroundTasks,
  ) {}
  canActivate(context: ExecutionContext) {
    join(this.tasks, requestOf(context), this.who);
    return true;
  }
}

@Injectable({ scope: Scope.REQUEST })
class GlobalGuard extends Guard {
  constructor(tasks: BackgroundTasks) {
    super('global guard', tasks);
  }
}

@Injectable()
class LocalGuard extends Guard {
  constructor(tasks: BackgroundTasks) {
    super('local guard', tasks);
  }
}

class Interceptor implements NestInterceptor {
  constructor(
    private readonly who: string,
    private readonly tasks: BackgroundTasks,
  ) {}
  intercept(context: ExecutionContext, next: CallHandler) {
    join(this.tasks, requestOf(context), this.who);
    return next.handle();
  }
}

@Injectable({ scope: Scope.REQUEST })
class GlobalInterceptor extends Interceptor {
  constructor(tasks: BackgroundTasks) {
    super('global interceptor', tasks);
  }
}

@Injectable()
class LocalInterceptor extends Interceptor {
  constructor(tasks: BackgroundTasks) {
    super('local interceptor', tasks);
  }
}

class Pipe implements PipeTransform {
  constructor(
    private readonly who: string,
    private readonly tasks: BackgroundTasks,
  ) {}
  transform(value: unknown, { type, data }: { type: string; data?: string | undefined }) {
    if (type === 'query' && data === 'id') join(this.tasks, String(value), this.who);
    return value;
  }
}

@Injectable({ scope: Scope.REQUEST })
class GlobalPipe extends Pipe {
  constructor(tasks: BackgroundTasks) {
    super('global pipe', tasks);
  }
}

@Injectable()
class LocalPipe extends Pipe {
  constructor(tasks: BackgroundTasks) {
    super('local pipe', tasks);
  }
}

class Teapot extends Error {}
class Kettle extends Error {}

abstract class Filter implements ExceptionFilter {
  constructor(
    private readonly who: string,
    private readonly tasks: BackgroundTasks,
  ) {}
  catch(_: Error, host: ArgumentsHost) {
    join(this.tasks, requestOf(host), this.who);
    host.switchToHttp().getResponse<{ status(code: number): { send(body: string): void } }>().status(418).send('teapot');
  }
}

@Injectable({ scope: Scope.REQUEST })
@Catch(Teapot)
class GlobalFilter extends Filter {
  constructor(tasks: BackgroundTasks) {
    super('global filter', tasks);
  }
}

@Injectable()
@Catch(Kettle)
class LocalFilter extends Filter {
  constructor(tasks: BackgroundTasks) {
    super('local filter', tasks);
  }
}

@Injectable()
class Service {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Injectable()
class DecoratedService {
  readonly tasks: BackgroundTasks;
  // tsx and esbuild need this, because they emit no types for Nest to inject by. Nor is one emitted for an intersection.
  constructor(@BackgroundTasks() tasks: BackgroundTasks & object) {
    this.tasks = tasks;
  }
}

@Controller()
@UseGuards(LocalGuard)
@UseInterceptors(LocalInterceptor)
@UseFilters(LocalFilter)
class EverythingController {
  constructor(
    private readonly service: Service,
    private readonly decorated: DecoratedService,
    private readonly moduleRef: ModuleRef,
    private readonly tasks: BackgroundTasks,
  ) {}

  @Get('everything/:end')
  @UsePipes(LocalPipe)
  async everything(@Query('id') id: string, @Param('end') end: string, @Req() request: object, @BackgroundTasks() tasks: BackgroundTasks) {
    join(this.service.tasks, id, 'service');
    join(this.decorated.tasks, id, 'decorated constructor parameter');
    join(this.tasks, id, 'controller');
    join(await this.moduleRef.resolve(BackgroundTasks, ContextIdFactory.getByRequest(request), { strict: false }), id, 'moduleRef.resolve');
    join(tasks, id, 'parameter');
    if (end === 'teapot') throw new Teapot();
    if (end === 'kettle') throw new Kettle();
    return tasks.tasks.map((task) => task.name);
  }
}

@Module({
  imports: [BackgroundTasksModule],
  controllers: [EverythingController],
  providers: [
    Service,
    DecoratedService,
    { provide: APP_GUARD, useClass: GlobalGuard, scope: Scope.REQUEST },
    { provide: APP_INTERCEPTOR, useClass: GlobalInterceptor, scope: Scope.REQUEST },
    { provide: APP_PIPE, useClass: GlobalPipe, scope: Scope.REQUEST },
    { provide: APP_FILTER, useClass: GlobalFilter, scope: Scope.REQUEST },
  ],
})
class EverythingModule {
  configure(consumer: MiddlewareConsumer) {
    consumer.apply(Middleware).forRoutes('{*path}');
  }
}

const everybody = [
  'middleware',
  'global guard',
  'local guard',
  'global interceptor',
  'local interceptor',
  'global pipe',
  'local pipe',
  'service',
  'decorated constructor parameter',
  'controller',
  'moduleRef.resolve',
  'parameter',
];

describe.each(platforms)('one list per request on %s', (platform) => {
  it('is shared by middleware, guards, interceptors, pipes, services, controller and parameter', async () => {
    const { http, runner } = await createApp(platform, EverythingModule);
    const response = await http.get('/everything/well?id=shared').expect(200);
    expect(response.body).toEqual(everybody);
    await runner.onIdle();
    expect(ran.get('shared')).toEqual(everybody);
  });

  it.each([
    ['teapot', 'global filter'],
    ['kettle', 'local filter'],
  ])('is shared by the exception filter that answers: %s', async (end, filter) => {
    const { http, runner } = await createApp(platform, EverythingModule);
    await http.get(`/everything/${end}?id=${end}`).expect(418, 'teapot');
    await runner.onIdle();
    expect(ran.get(end)).toEqual([...everybody, filter]);
  });

  it('is never shared by two requests, 200 of them at once', async () => {
    const { url, runner } = await createApp(platform, EverythingModule);
    const ids = Array.from({ length: 200 }, (_, index) => `${index}`);
    const bodies = await Promise.all(ids.map(async (id) => (await fetch(`${url}/everything/well?id=${id}`)).json()));
    await runner.onIdle();
    for (const body of bodies) expect(body).toEqual(everybody);
    for (const id of ids) expect(ran.get(id)).toEqual(everybody);
  });

  it('is never shared by two requests of one keep-alive connection', async () => {
    const { url, runner } = await createApp(platform, EverythingModule);
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const ports = new Set<number | undefined>();
    const get = (id: string) =>
      new Promise<void>((resolve, reject) => {
        http
          .get(`${url}/everything/well?id=${id}`, { agent }, (response) => {
            ports.add(response.socket.localPort);
            response.resume().on('end', resolve);
          })
          .on('error', reject);
      });
    for (const id of ['first', 'second', 'third']) await get(id);
    agent.destroy();
    await runner.onIdle();
    expect(ports.size).toBe(1);
    for (const id of ['first', 'second', 'third']) expect(ran.get(id)).toEqual(everybody);
  });
});

describe.each(platforms)('the parameter decorator on %s', (platform) => {
  let controllers = 0;

  @Controller()
  class SingletonController {
    constructor() {
      controllers += 1;
    }

    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(record, 'singleton', 'task');
      return tasks instanceof BackgroundTasks;
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [SingletonController] })
  class SingletonModule {}

  it('does not make its controller request-scoped', async () => {
    controllers = 0;
    const { http, app } = await createApp(platform, SingletonModule);
    await http.get('/').expect(200, 'true');
    await http.get('/').expect(200, 'true');
    expect(controllers).toBe(1);
    expect(app.get(ModuleRef).introspect(SingletonController).scope).toBe(Scope.DEFAULT);
  });

  it('passes a strict global ValidationPipe untouched', async () => {
    const { http, runner } = await createApp(platform, SingletonModule, {
      configure: (app) =>
        app.useGlobalPipes(
          new ValidationPipe({ transform: true, validateCustomDecorators: true, whitelist: true, forbidNonWhitelisted: true }),
        ),
    });
    await http.get('/').expect(200, 'true');
    await runner.onIdle();
    expect(ran.get('singleton')).toEqual(['task']);
  });
});

describe.each(platforms)('overrideProvider(BackgroundTasks) on %s', (platform) => {
  @Controller()
  class OverriddenController {
    constructor(private readonly service: Service) {}

    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'parameter' }, record, 'overridden', 'parameter');
      this.service.tasks.addTask({ name: 'service' }, record, 'overridden', 'service');
      return 'answered';
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [OverriddenController], providers: [Service] })
  class OverriddenModule {}

  it('useValue: injection and decorator hand out the list made by hand, and nothing runs until the test says so', async () => {
    const list = new BackgroundTasks();
    const { http, runner } = await createApp(platform, OverriddenModule, {
      build: (builder) => builder.overrideProvider(BackgroundTasks).useValue(list),
    });
    await http.get('/').expect(200, 'answered');
    await runner.onIdle();
    expect(list.tasks.map(({ name, args }) => ({ name, args }))).toEqual([
      { name: 'parameter', args: ['overridden', 'parameter'] },
      { name: 'service', args: ['overridden', 'service'] },
    ]);
    expect(ran.get('overridden')).toBeUndefined();
    await list.run();
    expect(ran.get('overridden')).toEqual(['parameter', 'service']);
  });
});

describe.each(platforms)('BackgroundTasks in `providers` on %s', (platform) => {
  it.each([
    ['beside the module', [BackgroundTasksModule]],
    ['without the module', []],
  ])('%s: is refused, as Nest would make lists that nobody runs', async (_, imports) => {
    @Controller()
    class ListingController {
      constructor(readonly tasks: BackgroundTasks) {}

      @Get()
      get() {
        this.tasks.addTask(() => {});
      }
    }

    @Module({ imports, controllers: [ListingController], providers: [BackgroundTasks] })
    class ListingModule {}

    const started = createApp(platform, ListingModule);
    if (isNest12) await expect(started).rejects.toThrow('import BackgroundTasksModule, and leave BackgroundTasks out of `providers`');
    // Nest 11 looks at what is request-scoped when there is a request.
    else await (await started).http.get('/').expect(500);
  });
});

describe.each(platforms)('a request on %s', (platform) => {
  it('may have whatever the application puts on it', async () => {
    let ran = 0;

    @Controller()
    class RawController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(() => (ran += 1));
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [RawController] })
    class RawModule {
      configure(consumer: MiddlewareConsumer) {
        // As for the check of a signature. On Fastify, middleware has Node's own request.
        const keepBody = (request: { raw?: Buffer }, _response: unknown, next: () => void) => {
          request.raw = Buffer.from('body');
          next();
        };
        consumer.apply(keepBody).forRoutes('{*path}');
      }
    }

    const { http, runner } = await createApp(platform, RawModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(ran).toBe(1);
  });
});

describe('a request on Fastify', () => {
  it('may have its reply on it, where strategies of Passport that are made for Express look for it', async () => {
    const order: string[] = [];

    @Injectable()
    class Audit implements NestMiddleware {
      constructor(private readonly tasks: BackgroundTasks) {}

      use(_request: unknown, _response: unknown, next: () => void) {
        this.tasks.addTask(() => void order.push('middleware'));
        next();
      }
    }

    @Injectable()
    class Orders {
      constructor(readonly tasks: BackgroundTasks) {}
    }

    @Controller()
    class OrdersController {
      constructor(private readonly orders: Orders) {}

      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(() => void order.push('parameter'));
        this.orders.tasks.addTask(() => void order.push('provider'));
        return { isOneList: tasks === this.orders.tasks };
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [OrdersController], providers: [Orders] })
    class OrdersModule {
      configure(consumer: MiddlewareConsumer) {
        consumer.apply(Audit).forRoutes('{*path}');
      }
    }

    const adapter = new FastifyAdapter();
    adapter.getInstance().addHook('onRequest', (request, reply, done) => {
      Object.assign(request, { res: reply });
      done();
    });
    const { http, runner } = await createApp('Fastify', OrdersModule, { adapter });
    await http.get('/').expect(200, { isOneList: true });
    await runner.onIdle();
    expect(order).toEqual(['middleware', 'parameter', 'provider']);
  });
});

describe('outside any request', () => {
  @Module({ imports: [BackgroundTasksModule] })
  class PlainModule {}

  it('moduleRef.resolve(BackgroundTasks) gives a list whose tasks run by themselves, tracked', async () => {
    const { app, runner } = await createApp('Express', PlainModule);
    const tasks = await app.resolve(BackgroundTasks);
    tasks.addTask(record, 'outside', 'task');
    expect(runner.pendingCount).toBe(1);
    expect(ran.get('outside')).toBeUndefined();
    await runner.onIdle();
    expect(ran.get('outside')).toEqual(['task']);
  });
});

describe('BackgroundTasks as a class', () => {
  it('is made with new, and is an instance of itself', () => {
    const tasks = new BackgroundTasks([new BackgroundTask(record, 'x', 'y')]);
    expect(tasks).toBeInstanceOf(BackgroundTasks);
    expect(tasks.constructor).toBe(BackgroundTasks);
    expect(BackgroundTasks.name).toBe('BackgroundTasks');
    expect(tasks.tasks).toHaveLength(1);
  });

  it('can be extended', async () => {
    class CountingTasks extends BackgroundTasks {
      get count() {
        return this.tasks.length;
      }
    }
    const tasks = new CountingTasks();
    tasks.addTask(record, 'extended', 'task');
    expect(tasks).toBeInstanceOf(CountingTasks);
    expect(tasks).toBeInstanceOf(BackgroundTasks);
    expect(tasks.count).toBe(1);
    await tasks.run();
    expect(ran.get('extended')).toEqual(['task']);
  });
});
