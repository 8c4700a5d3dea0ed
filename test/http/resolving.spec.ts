// Guarantee 2: a list that is resolved by hand is that of the request, if it is registered. Guarantee 6: outside any request, tasks start
// at once, tracked.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, Req, Scope } from '@nestjs/common';
import { ContextIdFactory, LazyModuleLoader, ModuleRef, NestFactory } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { RecordedLogs, createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

let ran: string[];

beforeEach(() => {
  ran = [];
});

@Injectable()
class Service {
  constructor(readonly tasks: BackgroundTasks) {}
  add(name: string) {
    this.tasks.addTask({ name }, () => ran.push(name));
  }
}

const scopes = [
  ['Scope.REQUEST', BackgroundTasksModule],
  ['Scope.DEFAULT', BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
] as const;

describe.each(platforms)('what a singleton resolves by hand in a request on %s', (platform) => {
  @Controller()
  class ResolvingController {
    constructor(private readonly moduleRef: ModuleRef) {}

    @Get('by-request')
    async byRequest(@Req() request: object, @BackgroundTasks() tasks: BackgroundTasks) {
      const contextId = ContextIdFactory.getByRequest(request);
      this.moduleRef.registerRequestByContextId(request, contextId);
      return this.#add(contextId, tasks);
    }

    @Get('by-new-id')
    async byNewId(@Req() request: object, @BackgroundTasks() tasks: BackgroundTasks) {
      const contextId = ContextIdFactory.create();
      this.moduleRef.registerRequestByContextId(request, contextId);
      return this.#add(contextId, tasks);
    }

    @Get('in-task')
    inTask(@Req() request: object, @BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(async () => {
        const contextId = ContextIdFactory.create();
        this.moduleRef.registerRequestByContextId(request, contextId);
        (await this.moduleRef.resolve(Service, contextId)).add('added in the task');
        ran.push('task');
      });
    }

    @Get('without-request')
    async withoutRequest(@BackgroundTasks() tasks: BackgroundTasks) {
      return this.#add(ContextIdFactory.create(), tasks);
    }

    async #add(contextId: { id: number }, tasks: BackgroundTasks) {
      tasks.addTask({ name: 'parameter' }, () => ran.push('parameter'));
      (await this.moduleRef.resolve(Service, contextId)).add('resolved service');
      const resolved = await this.moduleRef.resolve(BackgroundTasks, contextId, { strict: false });
      resolved.addTask({ name: 'resolved list' }, () => ran.push('resolved list'));
      return tasks.tasks.map((task) => task.name);
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [ResolvingController], providers: [Service] })
  class ResolvingModule {}

  it.each([
    ['ContextIdFactory.getByRequest', 'by-request'],
    ['registerRequestByContextId', 'by-new-id'],
  ])('has the list of the request, with %s', async (_, path) => {
    const { http, runner } = await createApp(platform, ResolvingModule);
    await http.get(`/${path}`).expect(200, ['parameter', 'resolved service', 'resolved list']);
    await runner.onIdle();
    expect(ran).toEqual(['parameter', 'resolved service', 'resolved list']);
  });

  it('has the list of the request in a task, when the response is over', async () => {
    const { http, runner } = await createApp(platform, ResolvingModule);
    await http.get('/in-task').expect(200);
    await runner.onIdle();
    expect(ran).toEqual(['task', 'added in the task']);
  });

  it('is outside any request without either: its tasks start at once', async () => {
    const { http, runner } = await createApp(platform, ResolvingModule);
    await http.get('/without-request').expect(200, ['parameter']);
    await runner.onIdle();
    expect(ran.toSorted()).toEqual(['parameter', 'resolved list', 'resolved service']);
  });
});

describe('registerRequestByContextId with what is no request', () => {
  class Job {}

  @Module({ imports: [BackgroundTasksModule], providers: [Service] })
  class JobModule {}

  it.each([
    ['an object of type "Job"', new Job()],
    // For a request-scoped listener, the request is the payload of the event.
    ['a string', 'order 7'],
    ['a number', 0],
    ['null', null],
  ])('gives a list that refuses tasks, and names what it got: %s', async (what, request) => {
    const { app } = await createApp('Express', JobModule);
    const contextId = ContextIdFactory.create();
    app.registerRequestByContextId(request, contextId);
    const service = await app.resolve(Service, contextId);
    expect(() => service.add('task')).toThrow(
      expect.objectContaining({ code: 'BACKGROUND_TASK_UNSUPPORTED_CONTEXT', message: expect.stringContaining(what) }),
    );
  });
});

describe.each(platforms)('a module that is loaded lazily on %s', (platform) => {
  @Module({ providers: [Service] })
  class LazyModule {}

  it.each(scopes)('adds to the list of the request, with %s', async (_scope, tasksModule) => {
    @Controller()
    class LazyController {
      constructor(
        private readonly loader: LazyModuleLoader,
        private readonly tasksModuleRef: ModuleRef,
      ) {}

      @Get()
      async get(@Req() request: object, @BackgroundTasks() tasks: BackgroundTasks) {
        const lazy = await this.loader.load(() => LazyModule);
        const contextId = ContextIdFactory.getByRequest(request);
        this.tasksModuleRef.registerRequestByContextId(request, contextId);
        (await lazy.resolve(Service, contextId).catch(() => lazy.get(Service))).add('lazy');
        return tasks.tasks.map((task) => task.name);
      }
    }

    @Module({ imports: [tasksModule], controllers: [LazyController] })
    class AppModule {}

    const { http, runner } = await createApp(platform, AppModule);
    await http.get('/').expect(200, ['lazy']);
    await http.get('/').expect(200, ['lazy']);
    await runner.onIdle();
    expect(ran).toEqual(['lazy', 'lazy']);
  });
});

describe.each(scopes)('an application without a server, with %s', (_scope, tasksModule) => {
  const held = gate();

  /** As a command of nest-commander is one. */
  @Injectable()
  class Command {
    constructor(private readonly moduleRef: ModuleRef) {}
    async run() {
      const tasks = await this.moduleRef
        .resolve(BackgroundTasks, undefined, { strict: false })
        .catch(() => this.moduleRef.get(BackgroundTasks));
      tasks.addTask(async () => {
        await held.opened;
        ran.push('held');
      });
    }
  }

  @Module({ imports: [tasksModule], providers: [Command] })
  class CommandModule {}

  it('createApplicationContext: tasks start at once, tracked, and close() waits for them', async () => {
    const logs = new RecordedLogs();
    const app = await NestFactory.createApplicationContext(CommandModule, { logger: logs });
    await app.get(Command).run();
    expect(app.get(BackgroundTasksRunner).pendingCount).toBe(1);
    const closed = app.close();
    held.open();
    await closed;
    expect(ran).toEqual(['held']);
    expect(logs.lines).toMatchObject([{ level: 'log' }]);
  });
});
