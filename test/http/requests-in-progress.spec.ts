// Guarantee 8: a shutdown waits for requests that the application has begun to serve, and for the tasks that they add.
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  Body,
  type CanActivate,
  Controller,
  type ExecutionContext,
  Get,
  type INestApplication,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestModule,
  type OnModuleDestroy,
  Post,
  Sse,
  UseGuards,
} from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { NEVER } from 'rxjs';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';
import { turns } from '../support/turns.js';

let log: Recorder<string>;
let held: Gate;

beforeEach(() => {
  log = new Recorder();
  held = gate();
});

@Injectable()
class SlowGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    log.add('guard');
    await held.opened;
    return context.getHandler().name !== 'denied';
  }
}

@Controller()
class UploadController {
  @Post('upload')
  upload(@Body() body: { name: string }, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => log.add(`task of ${body.name}`));
  }

  @Get('guarded')
  @UseGuards(SlowGuard)
  guarded(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => log.add('task'));
  }

  @Get('denied')
  @UseGuards(SlowGuard)
  denied() {}

  @Get('middleware')
  middleware(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => log.add('task'));
  }

  @Sse('events')
  events() {
    log.add('events');
    return NEVER;
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [UploadController] })
class UploadModule implements NestModule, OnModuleDestroy {
  configure(consumer: MiddlewareConsumer): void {
    const slow = async (request: { originalUrl: string }, response: ServerResponse, next: () => void): Promise<void> => {
      if (request.originalUrl === '/download') {
        log.add('download');
        response.write('first');
        return;
      }
      if (request.originalUrl !== '/middleware') return next();
      log.add('middleware');
      await held.opened;
      next();
    };
    consumer.apply(slow).forRoutes('{*path}');
  }

  onModuleDestroy() {
    log.add('disconnected');
  }
}

describe.each(platforms)('a shutdown on %s', (platform) => {
  /** Sends a request; `arrived` when the server has begun to serve it. */
  async function begin(path: string) {
    const app = await createApp(platform, UploadModule);
    const begun = once(app.app.getHttpServer(), 'request');
    const request = send(app.url + path, {
      method: path === '/upload' ? 'POST' : 'GET',
      agent: false,
      headers: path === '/upload' ? { 'content-type': 'application/json' } : {},
    });
    const answered = once(request, 'response') as Promise<[IncomingMessage]>;
    // Not if the client leaves first.
    answered.catch(() => undefined);
    if (path === '/upload') request.write('{ "name": ');
    else request.end();
    await begun;
    return { ...app, request, answered };
  }

  async function closing(app: INestApplication) {
    const closed = app.close();
    await turns();
    expect(log.all).not.toContain('disconnected');
    return closed.then(() => log.all);
  }

  it('waits for a request whose body is still arriving', async () => {
    const { app, request, answered } = await begin('/upload');
    const closed = closing(app);
    await turns();
    request.end('"Ada" }');
    const [response] = await answered;
    response.resume();
    expect(response.statusCode).toBe(201);
    expect(await closed).toEqual(['task of Ada', 'disconnected']);
  });

  it.each([
    ['guard', '/guarded', ['guard', 'task', 'disconnected']],
    ['guard', '/denied', ['guard', 'disconnected']],
    ['middleware', '/middleware', ['middleware', 'task', 'disconnected']],
  ])('waits for a slow %s: %s', async (where, path, expected) => {
    const { app, answered } = await begin(path);
    await log.containing(where);
    const closed = closing(app);
    await turns();
    held.open();
    (await answered)[0].resume();
    expect(await closed).toEqual(expected);
  });

  it.each(['events', 'download'])(
    'does not wait for a response that has begun without a task, and lasts as long as its client: %s',
    async (what) => {
      const { app, request } = await begin(`/${what}`);
      request.on('error', () => {});
      await log.containing(what);
      await turns();
      const closed = app.close();
      await log.containing('disconnected');
      request.destroy();
      await closed;
    },
  );
});
