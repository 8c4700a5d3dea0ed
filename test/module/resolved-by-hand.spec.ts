// Guarantee 2: a list that is resolved by hand is that of the request where Nest knows the request, and a debug line says where it does
// not.
import { describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, NotFoundException, Query, Req } from '@nestjs/common';
import { ContextIdFactory, ModuleRef } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

describe.each(platforms)('moduleRef.resolve(BackgroundTasks) in a singleton on %s', (platform) => {
  const ran: string[] = [];

  @Controller()
  class OrdersController {
    constructor(private readonly moduleRef: ModuleRef) {}

    @Get()
    async get(@Req() request: object, @Query('register') register?: string) {
      const contextId = ContextIdFactory.getByRequest(request as Record<PropertyKey, unknown>);
      if (register) this.moduleRef.registerRequestByContextId(request, contextId);
      const tasks = await this.moduleRef.resolve(BackgroundTasks, contextId, { strict: false });
      tasks.addTask({ name: 'mail' }, () => ran.push('mail'));
      throw new NotFoundException();
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [OrdersController] })
  class OrdersModule {}

  const LINE =
    'Background task "mail" was added to a list that belongs to no request, and starts at once. In a request, call ' +
    '`moduleRef.registerRequestByContextId(request, contextId)` before `moduleRef.resolve()`';

  it('is a list of no request by getByRequest() alone, which is logged', async () => {
    ran.length = 0;
    const { http, runner, logs } = await createApp(platform, OrdersModule);
    await http.get('/').expect(404);
    await runner.onIdle();
    expect(ran).toEqual(['mail']);
    expect(logs.of('debug')).toEqual([LINE]);
  });

  it('outside any request is no list: each task starts at once, whatever became of the one before it', async () => {
    ran.length = 0;
    @Module({ imports: [BackgroundTasksModule.forRoot({ onTaskFailure: 'stop' })] })
    class JobsModule {}
    const { app } = await createApp(platform, JobsModule);
    const tasks = await app.resolve<BackgroundTasks>(BackgroundTasks);
    const slow = gate();
    const fails = tasks.addTask(() => Promise.reject(new Error('no such job')));
    const waits = tasks.addTask(() => slow.opened);
    const quick = tasks.addTask(() => ran.push('quick'));
    await expect(Promise.all([fails.ended, quick.ended])).resolves.toEqual(['failed', 'completed']);
    slow.open();
    await expect(waits.ended).resolves.toBe('completed');
  });

  it('is the list of the request once that is registered, and has its outcome', async () => {
    ran.length = 0;
    const { http, runner, logs } = await createApp(platform, OrdersModule);
    await http.get('/?register=yes').expect(404);
    await runner.onIdle();
    expect(ran).toEqual([]);
    expect(logs.of('debug')).toEqual([
      'Background task "mail" was discarded: it runs on success, and the outcome of its request was failure',
    ]);
  });
});
