// Guarantee 4: `runOn` and the outcome of the request decide which tasks run, also for guards, middleware and filters.
import type { ServerResponse } from 'node:http';
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
  type CanActivate,
  Catch,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  ForbiddenException,
  Get,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestMiddleware,
  type NestModule,
  Scope,
  type Type,
  UseFilters,
  UseGuards,
} from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule, type RunOn } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';

let ran: string[];
const record = (name: string): void => void ran.push(name);

beforeEach(() => {
  ran = [];
});

/** The part of both platforms' responses that this spec uses. */
interface Reply {
  status(code: number): this;
  send(body: string): void;
}

describe.each(platforms)('runOn on %s', (platform) => {
  @Controller()
  class OutcomeController {
    @Get('success')
    success(@BackgroundTasks() tasks: BackgroundTasks) {
      this.#add(tasks);
    }

    @Get('failure')
    failure(@BackgroundTasks() tasks: BackgroundTasks) {
      this.#add(tasks);
      throw new Error('handler');
    }

    #add(tasks: BackgroundTasks): void {
      tasks.addTask({ name: 'default' }, record, 'default');
      addOutcomeTasks(tasks, record);
    }
  }

  const moduleWith = (runOn: RunOn | undefined): Type => {
    @Module({ imports: [BackgroundTasksModule.forRoot({ runOn })], controllers: [OutcomeController] })
    class OutcomeModule {}
    return OutcomeModule;
  };

  it.each<[RunOn | undefined, string, string[]]>([
    [undefined, 'success', ['default', 'success', 'always']],
    [undefined, 'failure', ['failure', 'always']],
    ['success', 'success', ['default', 'success', 'always']],
    ['success', 'failure', ['failure', 'always']],
    ['failure', 'success', ['success', 'always']],
    ['failure', 'failure', ['default', 'failure', 'always']],
    ['always', 'success', ['default', 'success', 'always']],
    ['always', 'failure', ['default', 'failure', 'always']],
  ])('of the module %s, on %s: %j run, whatever else is discarded', async (runOn, outcome, expected) => {
    const { http, runner } = await createApp(platform, moduleWith(runOn));
    await http.get(`/${outcome}`);
    await runner.onIdle();
    expect(ran).toEqual(expected);
    expect(runner.discardedCount).toBe(4 - expected.length);
  });

  it('a discarded task leaves a log line with its name and the reason, and is counted', async () => {
    const { http, runner, logs } = await createApp(platform, moduleWith('success'));
    await http.get('/success');
    await http.get('/failure');
    await runner.onIdle();
    expect(logs.lines.map(({ level, message }) => `${level}: ${message}`)).toEqual([
      'debug: Background task "failure" was discarded: it runs on failure, and the outcome of its request was success',
      'debug: Background task "default" was discarded: it runs on success, and the outcome of its request was failure',
      'debug: Background task "success" was discarded: it runs on success, and the outcome of its request was failure',
    ]);
    expect(runner.discardedCount).toBe(3);
  });
});

describe.each(platforms)('tasks of requests that never reach a handler on %s', (platform) => {
  @Injectable({ scope: Scope.REQUEST })
  class AddingGuard implements CanActivate {
    constructor(private readonly tasks: BackgroundTasks) {}

    canActivate(context: ExecutionContext): boolean {
      addOutcomeTasks(this.tasks, record);
      const handler = context.getHandler().name;
      if (handler === 'throws' || handler === 'answered') throw new ForbiddenException();
      return handler !== 'denied';
    }
  }

  @Catch()
  class OkFilter implements ExceptionFilter {
    catch(_error: unknown, host: ArgumentsHost) {
      host.switchToHttp().getResponse<Reply>().status(200).send('all is well');
    }
  }

  class Routes {
    @Get('denied')
    denied() {}

    @Get('throws')
    throws() {}

    @Get('answered')
    @UseFilters(OkFilter)
    answered() {}

    @Get('allowed')
    allowed() {}
  }

  @Controller()
  @UseGuards(AddingGuard)
  class GuardedController extends Routes {}

  @Controller()
  class PlainController extends Routes {}

  @Injectable()
  class AddingMiddleware implements NestMiddleware {
    constructor(private readonly tasks: BackgroundTasks) {}

    use(request: { originalUrl: string }, response: ServerResponse, next: () => void) {
      addOutcomeTasks(this.tasks, record);
      const [, status] = /answers-(\d+)$/.exec(request.originalUrl) ?? [];
      if (request.originalUrl === '/middleware-throws') throw new Error('middleware');
      if (!status) return next();
      response.statusCode = Number(status);
      response.end();
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [GuardedController] })
  class GuardModule {}

  @Module({
    imports: [BackgroundTasksModule],
    controllers: [PlainController],
    providers: [{ provide: APP_GUARD, useClass: AddingGuard, scope: Scope.REQUEST }],
  })
  class GlobalGuardModule {}

  @Module({ imports: [BackgroundTasksModule], controllers: [PlainController] })
  class MiddlewareModule implements NestModule {
    configure(consumer: MiddlewareConsumer): void {
      consumer.apply(AddingMiddleware).forRoutes('{*path}');
    }
  }

  it.each<[string, Type, string, number, RunOn]>([
    ['a guard denies', GuardModule, '/denied', 403, 'failure'],
    ['a guard throws', GuardModule, '/throws', 403, 'failure'],
    ['a guard lets pass', GuardModule, '/allowed', 200, 'success'],
    ['a global guard denies', GlobalGuardModule, '/denied', 403, 'failure'],
    ['a global guard throws', GlobalGuardModule, '/throws', 403, 'failure'],
    ['a global guard lets pass', GlobalGuardModule, '/allowed', 200, 'success'],
    // A limit: as no interceptor runs, the status is all there is, and this one looks like the 200 of a middleware.
    ['a guard throws, and a filter answers 200', GuardModule, '/answered', 200, 'success'],
    ['a middleware answers', MiddlewareModule, '/answers-200', 200, 'success'],
    ['a middleware redirects', MiddlewareModule, '/answers-303', 303, 'success'],
    ['a middleware refuses', MiddlewareModule, '/answers-401', 401, 'failure'],
    ['a middleware throws', MiddlewareModule, '/middleware-throws', 500, 'failure'],
    ['a middleware lets pass, to a handler', MiddlewareModule, '/allowed', 200, 'success'],
    ['a middleware lets pass, to a 404', MiddlewareModule, '/nowhere', 404, 'failure'],
  ])('%s', async (_name, module, path, status, outcome) => {
    const { http, runner } = await createApp(platform, module);
    await http.get(path).expect(status);
    await runner.onIdle();
    expect(ran).toEqual([outcome, 'always']);
    expect(runner.discardedCount).toBe(1);
  });
});

describe.each(platforms)('tasks that an exception filter adds on %s', (platform) => {
  @Catch()
  class AddingFilter implements ExceptionFilter {
    constructor(private readonly tasks: BackgroundTasks) {}

    catch(_error: unknown, host: ArgumentsHost) {
      addOutcomeTasks(this.tasks, record);
      host.switchToHttp().getResponse<Reply>().status(418).send('filtered');
    }
  }

  @Injectable()
  class DenyingGuard implements CanActivate {
    canActivate(): boolean {
      return false;
    }
  }

  @Controller()
  @UseFilters(AddingFilter)
  class FilteredController {
    @Get('handler-throws')
    handlerThrows(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ runOn: 'failure' }, record, 'of the handler');
      throw new Error('handler');
    }

    @Get('guard-denies')
    @UseGuards(DenyingGuard)
    guardDenies() {}

    @Get('not-json')
    notJson() {
      return { big: 1n };
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [FilteredController] })
  class FilterModule {}

  const rows: [string, string[]][] = [
    ['/handler-throws', ['of the handler', 'failure', 'always']],
    ['/guard-denies', ['failure', 'always']],
  ];
  // Fastify serialises after the filters of the route.
  if (platform === 'Express') rows.push(['/not-json', ['failure', 'always']]);

  it.each(rows)('run on failure: %s', async (path, expected) => {
    const { http, runner, logs } = await createApp(platform, FilterModule);
    await http.get(path).expect(418, 'filtered');
    await runner.onIdle();
    expect(ran).toEqual(expected);
    expect(runner.discardedCount).toBe(1);
    expect(logs.of('warn')).toEqual([]);
  });
});
