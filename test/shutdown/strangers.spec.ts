// Guarantee 8: a shutdown waits for the application's own requests and tasks, and for nothing else; `runner.closing` fires before any wait.
import { once } from 'node:events';
import { type IncomingMessage, type Server, type ServerResponse, get } from 'node:http';
import { connect } from 'node:http2';
import type { Socket } from 'node:net';
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type CanActivate,
  Controller,
  Get,
  Injectable,
  type MessageEvent,
  Module,
  type OnModuleDestroy,
  Sse,
  UseGuards,
} from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { WebSocketGateway } from '@nestjs/websockets';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { NEVER, type Observable, finalize, fromEvent, startWith, takeUntil } from 'rxjs';
import { io } from 'socket.io-client';
import { type TestAppOptions, createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';
import { Recorder } from '../support/recorder.js';
import { turns } from '../support/turns.js';

const log: string[] = [];
/** Opens when a handler is at work. */
let entered: Gate;
/** Opens when it may go on. */
let held: Gate;

beforeEach(() => {
  log.length = 0;
  entered = gate();
  held = gate();
});

/** Destroyed when the shutdown has waited. It knows whether that was at its deadline: no task is admitted after it. */
@Injectable()
class Database implements OnModuleDestroy {
  constructor(private readonly runner: BackgroundTasksRunner) {}

  async onModuleDestroy(): Promise<void> {
    const when = await this.runner
      .within((tasks) => void tasks.addTask(() => {}))
      .then(
        () => 'before the deadline',
        () => 'at the deadline',
      );
    log.push(`destroyed ${when}`);
  }
}

@WebSocketGateway()
class Gateway {}

@Injectable()
class AddingGuard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}

  canActivate(): boolean {
    addOutcomeTasks(this.tasks, (name) => log.push(name));
    return true;
  }
}

@Controller()
class WorkController {
  constructor(private readonly runner: BackgroundTasksRunner) {}

  @Get('never')
  never() {
    entered.open();
    return new Promise(() => {});
  }

  @Get('held')
  async held(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ runOn: 'always' }, () => log.push('task'));
    entered.open();
    await held.opened;
    log.push('handler');
  }

  @Get('task')
  task(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(async () => {
      entered.open();
      await held.opened;
      log.push('task');
    });
  }

  @Get('long-poll')
  async longPoll() {
    entered.open();
    await once(this.runner.closing, 'abort');
    return 'come back';
  }

  @Sse('events')
  events(): Observable<MessageEvent> {
    return NEVER.pipe(
      startWith({ data: 'first' }),
      takeUntil(fromEvent(this.runner.closing, 'abort')),
      finalize(() => log.push('stream ended')),
    );
  }

  @Sse('guarded-events')
  @UseGuards(AddingGuard)
  guardedEvents(): Observable<MessageEvent> {
    return NEVER.pipe(startWith({ data: 'first' }));
  }

  @Sse('endless-events')
  endlessEvents(@BackgroundTasks() tasks: BackgroundTasks): Observable<MessageEvent> {
    addOutcomeTasks(tasks, (name) => log.push(name));
    return NEVER.pipe(startWith({ data: 'first' }));
  }
}

@Module({
  imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 20_000 })],
  controllers: [WorkController],
  providers: [Database, Gateway],
})
class WorkModule {}

/** Sends a request. The client may leave before it has an answer. */
function send(url: string) {
  const request = get(url, { agent: false });
  const answer = once(request, 'response').then(([response]: IncomingMessage[]) => response!);
  // Those that leave get none.
  answer.catch(() => undefined);
  return { answer, leave: () => void request.destroy() };
}

describe.each(platforms)('a shutdown on %s', (platform) => {
  async function serve(options: TestAppOptions = {}) {
    const served = await createApp(platform, WorkModule, { configure: (app) => app.useWebSocketAdapter(new IoAdapter(app)), ...options });
    const server: Server = served.app.getHttpServer();
    const sockets: Socket[] = [];
    server.on('connection', (socket) => sockets.push(socket));
    return { ...served, server, logs: served.logs, lastSocketClosed: () => once(sockets.at(-1)!, 'close') };
  }

  it('does not wait for the open poll of an idle client of socket.io', async () => {
    const { app, url, server } = await serve();
    const polls = new Recorder<ServerResponse>();
    server.prependListener('request', (request, response) => request.method === 'GET' && polls.add(response));
    const client = io(url, { transports: ['polling'], reconnection: false });
    try {
      await once(client as never, 'connect');
      while (polls.all.every((response) => response.writableEnded)) await polls.atLeast(polls.all.length + 1);
      await app.close();
      expect(log).toEqual(['destroyed before the deadline']);
    } finally {
      client.disconnect();
    }
  });

  it('does not wait for requests that another listener of the server has taken, nor for those that it takes meanwhile', async () => {
    const { app, url, server } = await serve();
    const strangers = new Recorder<ServerResponse>();
    takeOver(server, (request, response) => {
      if (request.url === '/stranger') strangers.add(response);
      return request.url === '/stranger';
    });
    const exchanges = [send(`${url}/stranger`)];
    await strangers.atLeast(1);
    await (await fetch(`${url}/task`)).text();
    await entered.opened;
    const closed = app.close();
    exchanges.push(send(`${url}/stranger`));
    await strangers.atLeast(2);
    expect(log).toEqual([]);
    held.open();
    await destroyed();
    for (const { leave } of exchanges) leave();
    await closed;
    expect(log).toEqual(['task', 'destroyed before the deadline']);
  });

  it('does not wait for a handler without tasks whose client has left, however long ago', async () => {
    const { app, url, http, lastSocketClosed } = await serve();
    const { leave } = send(`${url}/never`);
    await entered.opened;
    leave();
    await lastSocketClosed();
    held.open();
    await http.get('/task').expect(200);
    await app.close();
    expect(log).toEqual(['task', 'destroyed before the deadline']);
  });

  it('does not wait any longer for a handler without tasks when its client leaves', async () => {
    const { app, url } = await serve();
    const { leave } = send(`${url}/never`);
    await entered.opened;
    const closed = app.close();
    await turns();
    expect(log).toEqual([]);
    leave();
    await closed;
    expect(log).toEqual(['destroyed before the deadline']);
  });

  it('waits for a handler that has tasks although its client has left', async () => {
    const { app, url, lastSocketClosed } = await serve();
    const { leave } = send(`${url}/held`);
    await entered.opened;
    leave();
    await lastSocketClosed();
    const closed = app.close();
    await turns();
    expect(log).toEqual([]);
    held.open();
    await closed;
    expect(log).toEqual(['handler', 'task', 'destroyed before the deadline']);
  });

  it('has `closing` fire first, which ends event streams and long polls', async () => {
    const { app, url, runner } = await serve();
    const poll = send(`${url}/long-poll`);
    await entered.opened;
    const stream = await send(`${url}/events`).answer;
    await once(stream, 'data');
    expect(runner.closing.aborted).toBe(false);
    runner.closing.addEventListener('abort', () => log.push('closing'));
    const ended = once(stream.resume(), 'end');
    const closed = app.close();
    expect((await poll.answer).resume().statusCode).toBe(200);
    await Promise.all([ended, closed]);
    expect(log.toSorted()).toEqual(['closing', 'destroyed before the deadline', 'stream ended']);
    expect(log.at(-1)).toBe('destroyed before the deadline');
    expect(runner.closing.aborted).toBe(true);
  });

  it.each(['/endless-events', '/guarded-events'])(
    'runs the tasks of an event stream that is still open, as those of a success: %s',
    async (path) => {
      const { app, url, runner, logs } = await serve();
      const { answer, leave } = send(url + path);
      await once(await answer, 'data');
      expect(runner.pendingCount).toBe(3);
      const closed = app.close();
      // Nest closes the server after its modules, and that waits for connections.
      await destroyed();
      leave();
      await closed;
      expect(log).toEqual(['success', 'always', 'destroyed before the deadline']);
      expect(logs.of('error')).toEqual([]);
    },
  );
});

describe('over HTTP/2 on Fastify, a shutdown', () => {
  async function serve() {
    const served = await createApp('Fastify', WorkModule, { adapter: new FastifyAdapter({ http2: true }) });
    const client = connect(served.url);
    return { ...served, client };
  }

  it.each(['the stream', 'the connection'])('does not wait for a handler without tasks whose client has closed %s', async (what) => {
    const { app, client } = await serve();
    try {
      const stream = client.request({ ':path': '/never' });
      stream.on('error', () => undefined);
      await entered.opened;
      if (what === 'the stream') stream.close();
      else client.destroy();
      await once(what === 'the stream' ? stream : client, 'close');
      if (what === 'the stream') client.close();
      await app.close();
      expect(log).toEqual(['destroyed before the deadline']);
    } finally {
      client.destroy();
    }
  });

  it('waits for a handler that has tasks although its client has left', async () => {
    const { app, client } = await serve();
    try {
      const stream = client.request({ ':path': '/held' });
      stream.on('error', () => undefined);
      await entered.opened;
      client.destroy();
      await once(client, 'close');
      const closed = app.close();
      await turns();
      expect(log).toEqual([]);
      held.open();
      await closed;
      expect(log).toEqual(['handler', 'task', 'destroyed before the deadline']);
    } finally {
      client.destroy();
    }
  });
});

/** Takes requests before the platform gets them, as engine.io does. */
function takeOver(server: Server, takes: (request: IncomingMessage, response: ServerResponse) => boolean): void {
  const listeners = server.listeners('request');
  server.removeAllListeners('request');
  server.on('request', (request, response) => {
    if (!takes(request, response)) for (const listener of listeners) listener.call(server, request, response);
  });
}

/** Resolves once the application's providers are being destroyed. */
async function destroyed(): Promise<void> {
  while (!log.some((line) => line.startsWith('destroyed'))) await turns();
}
