// Guarantee 2: if one application is mounted in another, each has its own list for the request that both see.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { afterEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Get,
  type INestApplication,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestMiddleware,
  type NestModule,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner, BackgroundTasksShutdownError } from 'nestjs-background-tasks';
import { RecordedLogs, createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

const open: INestApplication[] = [];
afterEach(async () => {
  await Promise.all(open.splice(0).map((app) => app.close()));
});

type Listener = (request: IncomingMessage, response: ServerResponse) => void;

describe.each(platforms)('an application mounted in one on %s', (platform) => {
  @Controller()
  class InnerController {
    @Get('inner')
    inner(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'inner' }, () => {
        throw new Error('inner');
      });
      return 'inner';
    }

    @Get('held')
    async held(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'held' }, () => {
        heldBegan.open();
        return heldTask.opened;
      });
    }
  }
  let heldTask: Gate;
  let heldBegan: Gate;

  async function mount(innerPlatform: (typeof platforms)[number], failed: string[]) {
    @Module({
      imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 10, onError: (_, { name }) => void failed.push(`inner: ${name}`) })],
      controllers: [InnerController],
    })
    class InnerModule {}

    heldTask = gate();
    heldBegan = gate();
    const logger = new RecordedLogs();
    const inner = await NestFactory.create(InnerModule, innerPlatform === 'Express' ? new ExpressAdapter() : new FastifyAdapter(), {
      logger,
    });
    await inner.init();
    open.push(inner);
    if (innerPlatform === 'Fastify') await inner.getHttpAdapter().getInstance().ready();
    const instance = inner.getHttpAdapter().getInstance();
    const listener: Listener = innerPlatform === 'Express' ? instance : instance.routing;

    @Injectable()
    class Mount implements NestMiddleware {
      constructor(private readonly tasks: BackgroundTasks) {}

      use(request: IncomingMessage & { originalUrl: string }, response: ServerResponse, next: () => void) {
        this.tasks.addTask({ name: 'outer' }, () => {
          throw new Error('outer');
        });
        if (request.originalUrl === '/outer') return next();
        // Nest's middleware has the rest of the path that it is mounted on.
        request.url = request.originalUrl;
        return listener(request, response);
      }
    }

    @Controller()
    class OuterController {
      @Get('outer')
      outer(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ name: 'of the handler' }, () => {});
        return 'outer';
      }
    }

    @Module({
      imports: [BackgroundTasksModule.forRoot({ onError: (_, { name }) => void failed.push(`outer: ${name}`) })],
      controllers: [OuterController],
    })
    class OuterModule implements NestModule {
      configure(consumer: MiddlewareConsumer): void {
        consumer.apply(Mount).forRoutes('{*path}');
      }
    }

    const outer = await createApp(platform, OuterModule);
    return { inner: inner.get(BackgroundTasksRunner), innerApp: inner, outer };
  }

  it.each(platforms)('(%s): the tasks of each go to its own runner and options', async (innerPlatform) => {
    const failed: string[] = [];
    const { inner, outer } = await mount(innerPlatform, failed);
    await outer.http.get('/inner').expect(200, 'inner');
    await outer.http.get('/outer').expect(200, 'outer');
    await Promise.all([inner.onIdle(), outer.runner.onIdle()]);
    expect(failed.sort()).toEqual(['inner: inner', 'outer: outer', 'outer: outer']);
  });

  it.each(platforms)('(%s): its shutdown aborts its own tasks, and leaves those of the other alone', async (innerPlatform) => {
    const failed: string[] = [];
    const { innerApp, outer } = await mount(innerPlatform, failed);
    await outer.http.get('/held').expect(200);
    await heldBegan.opened;
    await outer.runner.onIdle();
    await innerApp.close();
    expect(failed).toEqual(['outer: outer', 'inner: held']);
    await outer.http.get('/outer').expect(200);
    await outer.runner.onIdle();
    expect(outer.logs.of('error').filter((line) => line.includes(BackgroundTasksShutdownError.name))).toEqual([]);
    heldTask.open();
  });
});
