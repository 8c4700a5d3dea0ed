// Guarantee 11: globals that an environment may lack, such as `Response` in jsdom, are not taken for granted.
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

const { Response } = globalThis;

beforeEach(() => void Reflect.deleteProperty(globalThis, 'Response'));

afterEach(() => {
  globalThis.Response = Response;
});

describe.each(platforms)('without a global Response on %s', (platform) => {
  const ran: string[] = [];

  @Controller()
  class ObjectController {
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(() => ran.push('task'));
      return { ok: true };
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [ObjectController] })
  class ObjectModule {}

  it('a handler that returns an object answers, and its task runs', async () => {
    ran.length = 0;
    expect('Response' in globalThis).toBe(false);
    const { http, runner } = await createApp(platform, ObjectModule);
    await http.get('/').expect(200, { ok: true });
    await runner.onIdle();
    expect(ran).toEqual(['task']);
  });
});
