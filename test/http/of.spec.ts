// Guarantee 2: `BackgroundTasks.of()` is the one list of the request, in singletons and in code that Nest does not make.
import { describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  Catch,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  HttpException,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestInterceptor,
  type NestModule,
  NotFoundException,
  UseGuards,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

const ran: string[] = [];

@Injectable()
class Guard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    BackgroundTasks.of(context).addTask({ runOn: 'always' }, () => ran.push('guard'));
    return true;
  }
}

@Injectable()
class Interceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler) {
    BackgroundTasks.of(context).addTask({ runOn: 'always' }, () => ran.push('interceptor'));
    return next.handle();
  }
}

@Catch(HttpException)
class Filter implements ExceptionFilter {
  catch(exception: HttpException, host: ArgumentsHost) {
    const [request, response] = host.getArgs<[object, { status(code: number): { send(body: string): void } }]>();
    BackgroundTasks.of(request).addTask({ runOn: 'failure' }, () => ran.push('filter'));
    response.status(exception.getStatus()).send('filtered');
  }
}

@Controller()
class OrdersController {
  constructor(private readonly runner: BackgroundTasksRunner) {}

  @Get()
  get(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => ran.push('handler'));
    this.runner.addTask((name) => ran.push(name), 'of no request');
    return 'answer';
  }

  @Get('missing')
  missing() {
    throw new NotFoundException();
  }
}

@Module({
  imports: [BackgroundTasksModule],
  controllers: [OrdersController],
  providers: [
    { provide: APP_GUARD, useClass: Guard },
    { provide: APP_INTERCEPTOR, useClass: Interceptor },
    { provide: APP_FILTER, useClass: Filter },
  ],
})
class OrdersModule implements NestModule {
  configure(consumer: MiddlewareConsumer): void {
    const middleware = (request: object, _: unknown, next: () => void): void => {
      BackgroundTasks.of(request).addTask({ runOn: 'always' }, () => ran.push('middleware'));
      next();
    };
    consumer.apply(middleware).forRoutes('{*path}');
  }
}

describe.each(platforms)('BackgroundTasks.of() on %s', (platform) => {
  it('is the list of the request in middleware, a guard, an interceptor and a filter that are singletons', async () => {
    ran.length = 0;
    const { http, runner, logs } = await createApp(platform, OrdersModule);
    await http.get('/').expect(200, 'answer');
    await runner.onIdle();
    expect(ran.filter((name) => name !== 'of no request')).toEqual(['middleware', 'guard', 'interceptor', 'handler']);
    ran.length = 0;
    await http.get('/missing').expect(404, 'filtered');
    await runner.onIdle();
    expect(ran).toEqual(['middleware', 'guard', 'interceptor', 'filter']);
    expect(logs.of('warn')).toEqual([]);
  });

  it('is the list of the application that has the request, where a process has several', async () => {
    ran.length = 0;
    const [first, second] = [await createApp(platform, OrdersModule), await createApp(platform, OrdersModule)];
    await second.http.get('/').expect(200, 'answer');
    await second.runner.onIdle();
    expect(ran).toHaveLength(5);
    expect([first.runner.activeCount, first.runner.pendingCount]).toEqual([0, 0]);
  });

  it('is the list that a test has put in place of the provider', async () => {
    ran.length = 0;
    const list = new BackgroundTasks();
    const { http } = await createApp(platform, OrdersModule, {
      build: (builder) => builder.overrideProvider(BackgroundTasks).useValue(list),
    });
    await http.get('/').expect(200, 'answer');
    expect(list.tasks).toHaveLength(4);
  });

  it('starts a task of no request at once, and tracks it', async () => {
    const { runner } = await createApp(platform, OrdersModule);
    const task = runner.addTask({ name: 'warm' }, () => 'warm');
    expect(runner.pendingCount).toBe(1);
    expect(await task.ended).toBe('completed');
    expect(runner.pendingCount).toBe(0);
  });
});

it('is the list of the request after another application has failed to start', async () => {
  @Module({
    imports: [BackgroundTasksModule],
    providers: [
      {
        provide: 'config',
        useFactory: () => {
          throw new Error('no DATABASE_URL');
        },
      },
    ],
  })
  class FailingModule {}
  await expect(Test.createTestingModule({ imports: [FailingModule] }).compile()).rejects.toThrow('no DATABASE_URL');

  class AuditGuard implements CanActivate {
    canActivate(context: ExecutionContext): boolean {
      BackgroundTasks.of(context).addTask(() => undefined);
      return true;
    }
  }
  @Controller()
  class OrdersController {
    @Get()
    @UseGuards(AuditGuard)
    get() {}
  }
  @Module({ imports: [BackgroundTasksModule], controllers: [OrdersController] })
  class OrdersModule {}
  const app = (await Test.createTestingModule({ imports: [OrdersModule] }).compile()).createNestApplication<NestFastifyApplication>(
    new FastifyAdapter(),
    { logger: false },
  );
  await app.init();
  // Such a request has no server to find its application by.
  expect((await app.inject({ url: '/' })).statusCode).toBe(200);
  await app.close();
});

it('says that no application has the request', () => {
  expect(() => BackgroundTasks.of({})).toThrow(expect.objectContaining({ code: 'BACKGROUND_TASK_MODULE_NOT_IMPORTED' }));
});
