// Guarantee 3: the handshake of a WebSocket is over with its answer: 101 is a success, and the open connection holds up neither tasks nor a
// shutdown.
import { once } from 'node:events';
import { type IncomingMessage, get } from 'node:http';
import websocket from '@fastify/websocket';
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type INestApplication,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestMiddleware,
  type NestModule,
  type OnModuleDestroy,
  Scope,
  type Type,
} from '@nestjs/common';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { WsAdapter } from '@nestjs/platform-ws';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { io } from 'socket.io-client';
import { WebSocket } from 'ws';
import { createApp, platforms } from '../support/app.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';
import { turns } from '../support/turns.js';

const log: string[] = [];

beforeEach(() => void log.splice(0));

/** Adds tasks for everything that comes through the server. */
@Injectable()
class AddTasks implements NestMiddleware {
  constructor(private readonly tasks: BackgroundTasks) {}

  use(_request: unknown, response: { statusCode: number; end(): void }, next: () => void): void {
    addOutcomeTasks(this.tasks, (name) => log.push(name));
    // A query of a raw request, on either platform.
    if (!(_request as { url: string }).url.includes('refuse-early')) return next();
    response.statusCode = 401;
    response.end();
  }
}

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
class Gateway {
  @SubscribeMessage('hello')
  hello(): void {}
}

function moduleOf(scope: Scope.DEFAULT | Scope.REQUEST, gateways: Type[] = []): Type {
  @Module({ imports: [BackgroundTasksModule.forRoot({ scope, shutdownTimeout: 20_000 })], providers: [Database, ...gateways] })
  class HandshakeModule implements NestModule {
    configure(consumer: MiddlewareConsumer): void {
      consumer.apply(AddTasks).forRoutes('*path');
    }
  }
  return HandshakeModule;
}

interface Fastify {
  register(plugin: unknown): Fastify;
  get(path: string, options: object, handler: (socket: WebSocket, request: object) => void): void;
}

interface Reply {
  code(status: number): Reply;
  send(body: string): Reply;
  hijack(): void;
}

/** A route of @fastify/websocket that echoes, and refuses whom it is told to, also by hand, as Node's documentation has it. */
function addSocketRoute(app: INestApplication): void {
  const fastify: Fastify = app.getHttpAdapter().getInstance();
  const preValidation = async (request: { url: string; raw: IncomingMessage }, reply: Reply): Promise<unknown> => {
    if (request.url.includes('refuse-by-hand')) {
      reply.hijack();
      request.raw.socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
      request.raw.socket.destroySoon();
    }
    return request.url.endsWith('refuse') ? reply.code(401).send('who are you?') : undefined;
  };
  fastify.register(websocket).register(async (scope: Fastify) => {
    scope.get('/socket', { websocket: true, preValidation }, (socket) => {
      socket.on('message', (data) => socket.send(data));
    });
  });
}

describe.each([
  ['Scope.REQUEST', Scope.REQUEST],
  ['Scope.DEFAULT', Scope.DEFAULT],
] as const)('a handshake of @fastify/websocket under %s', (_, scope) => {
  const serve = () => createApp('Fastify', moduleOf(scope), { configure: addSocketRoute });

  it('runs its tasks as those of a success, while the connection is open, which holds up no shutdown', async () => {
    const { app, url, runner, logs } = await serve();
    const socket = new WebSocket(`${url.replace('http', 'ws')}/socket`);
    await once(socket, 'open');
    await runner.onIdle();
    expect(log).toEqual(['success', 'always']);
    expect(logs.of('debug')).toEqual([
      'Background task "failure" was discarded: it runs on failure, and the outcome of its request was success',
    ]);
    socket.send('still there?');
    const [answer]: Buffer[] = (await once(socket, 'message')) as Buffer[];
    expect(answer!.toString()).toBe('still there?');
    await app.close();
    expect(log).toEqual(['success', 'always', 'destroyed before the deadline']);
    expect(logs.of('log')).toEqual([]);
  });

  const KEY = Buffer.alloc(16).toString('base64');

  it.each([
    ['a hook of the route', '/socket?refuse', KEY, 401],
    ['middleware', '/socket?refuse-early', KEY, 401],
    ['code that writes to the connection', '/socket?refuse-by-hand', KEY, 403],
    ['the library of WebSocket', '/socket', 'no key', 400],
  ])('that %s refuses is a failure', async (_who, path, key, status) => {
    const { app, url, runner } = await serve();
    const headers = { connection: 'Upgrade', upgrade: 'websocket', 'sec-websocket-version': '13', 'sec-websocket-key': key };
    const [response] = (await once(get(url + path, { headers }), 'response')) as [IncomingMessage];
    expect(response.statusCode).toBe(status);
    await runner.onIdle();
    expect(log).toEqual(['failure', 'always']);
    response.destroy();
    await app.close();
    expect(log).toEqual(['failure', 'always', 'destroyed before the deadline']);
  });

  it('of a plain request to the same application changes nothing', async () => {
    const { url, runner } = await serve();
    expect((await fetch(`${url}/nothing-here`)).status).toBe(404);
    await runner.onIdle();
    expect(log).toEqual(['failure', 'always']);
  });
});

describe.each(platforms)('a gateway on %s', (platform) => {
  it.each([
    ['ws', (app: INestApplication) => new WsAdapter(app)],
    ['socket.io', (app: INestApplication) => new IoAdapter(app)],
  ] as const)('of %s answers its handshakes past the middleware, and its connections hold up no shutdown', async (kind, adapter) => {
    const { app, url } = await createApp(platform, moduleOf(Scope.REQUEST, [Gateway]), {
      configure: (made) => made.useWebSocketAdapter(adapter(made)),
    });
    const client = kind === 'ws' ? new WebSocket(url.replace('http', 'ws')) : io(url, { transports: ['websocket'], reconnection: false });
    await once(client as never, kind === 'ws' ? 'open' : 'connect');
    await turns();
    expect(log).toEqual([]);
    await app.close();
    expect(log).toEqual(['destroyed before the deadline']);
    client.close();
  });
});
