// Guarantee 11: the interceptor replaces how Nest runs interceptors, and nobody notices, other interceptors included.
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import {
  type CallHandler,
  Controller,
  type ExecutionContext,
  Get,
  type INestApplication,
  Module,
  type NestInterceptor,
  Res,
  Sse,
  UseInterceptors,
} from '@nestjs/common';
import { RouterExecutionContext } from '@nestjs/core/router/router-execution-context.js';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { Test } from '@nestjs/testing';
import {
  BackgroundTasks,
  BackgroundTasksInterceptor,
  BackgroundTasksModule,
  BackgroundTasksRunner,
  type RunOn,
} from 'nestjs-background-tasks';
import { type Observable, map, of } from 'rxjs';
import supertest from 'supertest';
import { adapterOf, createApp, platforms } from '../support/app.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';

let ran: string[];
let intercept: jest.SpiedFunction<BackgroundTasksInterceptor['intercept']>;

beforeEach(() => {
  ran = [];
  intercept = jest.spyOn(BackgroundTasksInterceptor.prototype, 'intercept');
});

afterEach(() => intercept.mockRestore());

const add = (tasks: BackgroundTasks): void => addOutcomeTasks(tasks, (name) => ran.push(name));

const wrapping = (name: string): NestInterceptor => ({
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    ran.push(`${name} begins`);
    return next.handle().pipe(map((value) => `${name}(${String(value)})`));
  },
});

@Controller()
class ValuesController {
  @Get('value')
  value(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks);
    return 'value';
  }

  @Get('observable')
  observable(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks);
    return of('first', 'last');
  }

  @Get('exception')
  exception(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks);
    throw new Error('handler');
  }

  @Get('wrapped')
  @UseInterceptors(wrapping('inner'))
  wrapped(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks);
    return 'value';
  }

  @Get('by-hand')
  byHand(@Res() response: { send(body: string): void }, @BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks);
    response.send('by hand');
  }

  @Sse('events')
  events(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks);
    return of({ data: 'event' });
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [ValuesController] })
class ValuesModule {}

describe.each(platforms)('the interceptor on %s', (platform) => {
  it.each([
    ['/value', 'value', ['success', 'always']],
    ['/observable', 'last', ['success', 'always']],
    ['/exception', undefined, ['failure', 'always']],
    ['/by-hand', 'by hand', ['success', 'always']],
  ])('is not called by Nest, and does its work: %s', async (path, body, expected) => {
    const { http, runner } = await createApp(platform, ValuesModule);
    const { text } = await http.get(path);
    expect(text).toBe(body ?? text);
    await runner.onIdle();
    expect(ran).toEqual(expected);
    expect(intercept).not.toHaveBeenCalled();
  });

  it('is called for an event stream', async () => {
    const { http, runner } = await createApp(platform, ValuesModule);
    await http.get('/events').expect(200, /data: event/);
    await runner.onIdle();
    expect(ran).toEqual(['success', 'always']);
    expect(intercept).toHaveBeenCalledTimes(1);
  });

  it('leaves the other interceptors, global and of the route, as they were', async () => {
    const { http, runner } = await createApp(platform, ValuesModule, { configure: (app) => app.useGlobalInterceptors(wrapping('outer')) });
    await http.get('/wrapped').expect(200, 'outer(inner(value))');
    await runner.onIdle();
    expect(ran).toEqual(['outer begins', 'inner begins', 'success', 'always']);
  });

  it('belongs to one application of the process', async () => {
    const moduleWith = (runOn: RunOn) => {
      @Controller()
      class OwnController {
        @Get()
        get(@BackgroundTasks() tasks: BackgroundTasks) {
          tasks.addTask(() => ran.push(runOn));
        }
      }

      @Module({ imports: [BackgroundTasksModule.forRoot({ runOn })], controllers: [OwnController] })
      class OwnModule {}
      return OwnModule;
    };
    const [succeeding, failing] = [await createApp(platform, moduleWith('success')), await createApp(platform, moduleWith('failure'))];
    await succeeding.http.get('/').expect(200);
    await failing.http.get('/').expect(200);
    await Promise.all([succeeding.runner.onIdle(), failing.runner.onIdle()]);
    expect(ran).toEqual(['success']);
    expect([succeeding.runner.discardedCount, failing.runner.discardedCount]).toEqual([0, 1]);
  });

  it('knows handlers that instrumentation has wrapped', async () => {
    // As OpenTelemetry's instrumentation of Nest does.
    const { create } = RouterExecutionContext.prototype;
    RouterExecutionContext.prototype.create = function (this: RouterExecutionContext, instance, handler, ...rest) {
      const wrapped = { [handler.name]: (...args: unknown[]): unknown => handler.apply(instance, args) }[handler.name]!;
      for (const key of Reflect.getMetadataKeys(handler)) Reflect.defineMetadata(key, Reflect.getMetadata(key, handler), wrapped);
      return create.call(this, instance, wrapped, ...rest);
    };
    try {
      const { http, runner } = await createApp(platform, ValuesModule);
      for (const path of ['/value', '/by-hand', '/events']) await http.get(path).expect(200);
      await runner.onIdle();
      expect(ran).toEqual(['success', 'always', 'success', 'always', 'success', 'always']);
    } finally {
      RouterExecutionContext.prototype.create = create;
    }
  });

  it('does its work for tests that do not listen', async () => {
    const testingModule = await Test.createTestingModule({ imports: [ValuesModule] }).compile();
    const app: INestApplication = testingModule.createNestApplication(adapterOf(platform), { logger: false });
    await app.init();
    if (platform === 'Fastify') {
      await app.getHttpAdapter().getInstance().ready();
      await (app as NestFastifyApplication).inject('/exception');
    } else {
      await supertest(app.getHttpServer()).get('/exception').expect(500);
    }
    await app.get(BackgroundTasksRunner).onIdle();
    expect(ran).toEqual(['failure', 'always']);
    await app.close();
  });
});
