// Guarantee 4: a task that is added past the list of a `within()` call, to that of the request around it, is told of where that can be
// seen.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

/** From Node 24 on, the store that this takes costs nothing. */
const isSeen = Number.parseInt(process.versions.node, 10) >= 24;
const ran: string[] = [];

beforeEach(() => void ran.splice(0));

@Controller()
class OrdersController {
  constructor(
    private readonly runner: BackgroundTasksRunner,
    private readonly host: HttpAdapterHost,
  ) {}

  @Get('past')
  async past(@BackgroundTasks() tasks: BackgroundTasks) {
    await this.runner
      .within(async () => {
        await Promise.resolve();
        tasks.addTask({ name: 'mail' }, () => ran.push('mail'));
        throw new Error('lost to another');
      })
      .catch(() => undefined);
  }

  @Get('own')
  async own(@BackgroundTasks() tasks: BackgroundTasks) {
    await this.runner.within((list) => void list.addTask(() => ran.push('of within()')));
    tasks.addTask(() => ran.push('of the request'));
  }

  @Get('begins-a-request')
  async beginsARequest() {
    await this.runner.within(async () => {
      const { port } = this.host.httpAdapter.getHttpServer().address() as { port: number };
      await fetch(`http://127.0.0.1:${port}/inner`);
    });
  }

  @Get('inner')
  inner(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => ran.push('inner'));
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [OrdersController] })
class OrdersModule {}

describe.each(platforms)('on %s', (platform) => {
  it('a task of the list of the request runs however the call ends, with a warning on Node 24 and later', async () => {
    const { http, runner, logs } = await createApp(platform, OrdersModule);
    await http.get('/past').expect(200);
    await runner.onIdle();
    expect(ran).toEqual(['mail']);
    const warning =
      'Background task "mail" was added to the list of its request in a call of `within()`, and runs after the response, however that call ' +
      'ends; add it to the list that `within()` passes to its function';
    expect(logs.of('warn')).toEqual(isSeen ? [warning] : []);
  });

  it.each([
    ['its own list, and after it', '/own', ['of within()', 'of the request']],
    ['a request that begins in it', '/begins-a-request', ['inner']],
  ])('nothing is said of %s', async (_, path, expected) => {
    const { http, runner, logs } = await createApp(platform, OrdersModule);
    await http.get(path).expect(200);
    await runner.onIdle();
    expect(ran).toEqual(expected);
    expect(logs.of('warn')).toEqual([]);
  });
});
