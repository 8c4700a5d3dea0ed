// Guarantees 2, 4 and 8, for gateways: one list per message, flushed after the acknowledgement.
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
  type CanActivate,
  Catch,
  type ExceptionFilter,
  type INestApplication,
  Injectable,
  Module,
  Scope,
  type Type,
  UseFilters,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { WsAdapter } from '@nestjs/platform-ws';
import { ConnectedSocket, MessageBody, type OnGatewayConnection, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { BackgroundTasks, BackgroundTasksError, BackgroundTasksInterceptor, BackgroundTasksModule } from 'nestjs-background-tasks';
import { Observable } from 'rxjs';
import { io } from 'socket.io-client';
import { WebSocket } from 'ws';
import { type Platform, type TestApp, createApp, isNest12, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

/** Nest 12 brought global interceptors, and the request scope, to gateways. */
const Observed = (): ClassDecorator => (isNest12 ? () => undefined : UseInterceptors(BackgroundTasksInterceptor));

/** The events on the server, in order: replies as the socket gets them, and tasks. */
const events: string[] = [];
/** Opens when a handler has added its task. */
let entered: Gate;
/** Opens when it may go on. */
let held: Gate;

beforeEach(() => {
  events.length = 0;
  entered = gate();
  held = gate();
});

function record(what: string): void {
  events.push(what);
}

/** A client: sends a message, and resolves with the data of the reply. */
type Client = (message: string, data?: unknown) => Promise<unknown>;

/** The differences between the two kinds of sockets. */
interface Sockets {
  adapter(app: INestApplication): void;
  /** Records what the server hands to the socket of a client. */
  recordReplies(socket: object): void;
  connect(url: string): Promise<Client>;
  /** The result of a stream of two values: an acknowledgement can be sent only once. */
  readonly streamed: readonly string[];
}

const ws: Sockets = {
  streamed: ['reply', 'last value', 'reply'],
  adapter: (app) => app.useWebSocketAdapter(new WsAdapter(app)),
  recordReplies: (socket) => {
    const { send } = socket as { send(reply: string): void };
    Object.assign(socket, {
      send(reply: string) {
        record('reply');
        send.call(socket, reply);
      },
    });
  },
  async connect(url) {
    const socket = new WebSocket(url.replace('http', 'ws'));
    const replies = new Map<number, (data: unknown) => void>();
    let sent = 0;
    socket.on('message', (reply: Buffer) => {
      const { id, data } = JSON.parse(reply.toString()) as { id: number; data: unknown };
      replies.get(id)!(data);
    });
    await new Promise((resolve) => socket.once('open', resolve));
    return (event, data) =>
      new Promise((resolve) => {
        const id = sent++;
        replies.set(id, resolve);
        socket.send(JSON.stringify({ event, data: { id, data } }));
      });
  },
};

const socketIo: Sockets = {
  streamed: ['reply', 'last value'],
  adapter: (app) => app.useWebSocketAdapter(new IoAdapter(app)),
  recordReplies: (socket) => {
    const { conn } = socket as { conn: { on(event: 'packetCreate', listener: (packet: { type: string }) => void): void } };
    conn.on('packetCreate', ({ type }) => type === 'message' && record('reply'));
  },
  async connect(url) {
    const socket = io(url, { transports: ['websocket'], forceNew: true, reconnection: false });
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    return async (event, data) => ((await socket.emitWithAck(event, { data })) as { data: unknown }).data;
  },
};

/** A message: the client over ws knows its reply by the `id`, the one over socket.io has acknowledgements. */
interface Message {
  readonly id?: number;
  readonly data: string;
}

@Injectable()
class Service {
  constructor(private readonly tasks: BackgroundTasks) {}
  add(name: string) {
    this.tasks.addTask({ name: 'service' }, record, `service's task of ${name}`);
  }
}

@Catch()
class Revealed implements ExceptionFilter {
  catch(error: Error, host: ArgumentsHost) {
    record(error instanceof BackgroundTasksError ? `${error.code}: ${error.message}` : error.message);
    const { id } = host.switchToWs().getData<Message>();
    const socket = host.switchToWs().getClient<{ send?(reply: string): void }>();
    const acknowledge = host.getArgs().find((argument) => typeof argument === 'function') as ((reply: unknown) => void) | undefined;
    if (acknowledge) acknowledge({ data: 'failed' });
    else socket.send?.(JSON.stringify({ id, data: 'failed' }));
  }
}

describe.each([
  ['ws', ws],
  ['socket.io', socketIo],
])('a gateway over %s', (_kind, sockets) => {
  async function start(platform: Platform, module: Type): Promise<TestApp & { send: Client }> {
    const started = await createApp(platform, module, { configure: sockets.adapter });
    return { ...started, runner: started.runner, send: await sockets.connect(started.url) };
  }

  describe.each([
    ['Scope.REQUEST', BackgroundTasksModule],
    ['Scope.DEFAULT', BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
  ] as const)('the parameter decorator with %s', (_scope, tasksModule) => {
    @WebSocketGateway()
    @Observed()
    @UseFilters(Revealed)
    class DecoratedGateway {
      @SubscribeMessage('add')
      async add(@MessageBody() { id, data }: Message, @ConnectedSocket() socket: object, @BackgroundTasks() tasks: BackgroundTasks) {
        if (data === 'once') sockets.recordReplies(socket);
        tasks.addTask({ name: data }, record, `task of ${data}`);
        entered.open();
        await new Promise(setImmediate);
        tasks.addTask({ name: data }, record, `second task of ${data}`);
        return { id, data: tasks.tasks.map((task) => task.name) };
      }

      @SubscribeMessage('stream')
      stream(@MessageBody() { id }: Message, @ConnectedSocket() socket: object, @BackgroundTasks() tasks: BackgroundTasks) {
        sockets.recordReplies(socket);
        return new Observable((subscriber) => {
          tasks.addTask(record, 'task');
          subscriber.next({ id, data: 1 });
          setImmediate(() => {
            record('last value');
            subscriber.next({ id, data: 2 });
            subscriber.complete();
          });
        });
      }

      @SubscribeMessage('hold')
      async hold(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(record, 'task');
        entered.open();
        await held.opened;
        record('handled');
      }

      @SubscribeMessage('fail')
      fail(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(record, 'on success');
        tasks.addTask({ runOn: 'failure' }, record, 'on failure');
        throw new Error('the handler fails');
      }
    }

    @Module({ imports: [tasksModule], providers: [DecoratedGateway] })
    class DecoratedModule {}

    it.each(platforms)('on %s: one list per message, which runs after the acknowledgement', async (platform) => {
      const { send, runner } = await start(platform, DecoratedModule);
      expect(await send('add', 'once')).toEqual(['once', 'once']);
      await runner.onIdle();
      expect(events).toEqual(['reply', 'task of once', 'second task of once']);
    });

    it('the tasks of a stream of several values run after the last one', async () => {
      const { send, runner } = await start('Express', DecoratedModule);
      expect(await send('stream')).toBe(1);
      await runner.onIdle();
      expect(events).toEqual([...sockets.streamed, 'task']);
    });

    it('messages of one connection never mix, 100 of them at once', async () => {
      const { send, runner } = await start('Express', DecoratedModule);
      const names = Array.from({ length: 100 }, (_each, index) => `${index}`);
      expect(await Promise.all(names.map((name) => send('add', name)))).toEqual(names.map((name) => [name, name]));
      await runner.onIdle();
      for (const name of names) {
        expect(events.filter((event) => event.endsWith(` of ${name}`))).toEqual([`task of ${name}`, `second task of ${name}`]);
      }
    });

    it('a handler that fails makes the outcome a failure', async () => {
      const { send, runner } = await start('Express', DecoratedModule);
      expect(await send('fail')).toBe('failed');
      await runner.onIdle();
      expect(events).toEqual(['the handler fails', 'on failure']);
      expect(runner.discardedCount).toBe(1);
    });

    it('app.close() waits for handlers and for tasks', async () => {
      const { app, send } = await start('Express', DecoratedModule);
      void send('hold').catch(() => 'the connection is gone');
      await entered.opened;
      const closed = app.close();
      held.open();
      await closed;
      expect(events).toEqual(['handled', 'task']);
    });
  });

  describe('injection with Scope.DEFAULT', () => {
    @Injectable()
    class Guard implements CanActivate {
      constructor(private readonly tasks: BackgroundTasks) {}
      canActivate() {
        this.tasks.addTask(record, "guard's task");
        return true;
      }
    }

    @WebSocketGateway()
    @Observed()
    class InjectedGateway implements OnGatewayConnection {
      constructor(
        private readonly tasks: BackgroundTasks,
        private readonly service: Service,
      ) {}

      handleConnection() {
        this.tasks.addTask(record, 'connected');
      }

      @SubscribeMessage('add')
      async add(@MessageBody() { id, data }: Message, @BackgroundTasks() tasks: BackgroundTasks) {
        this.tasks.addTask({ name: 'gateway' }, record, `gateway's task of ${data}`);
        await new Promise(setImmediate);
        this.service.add(data);
        return { id, data: tasks.tasks.map((task) => task.name) };
      }

      @UseGuards(Guard)
      @SubscribeMessage('guarded')
      async guarded(@MessageBody() { id }: Message) {
        entered.open();
        await held.opened;
        return { id, data: 'let in' };
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })], providers: [InjectedGateway, Service] })
    class InjectedModule {}

    it.each(platforms)('on %s: gateway, services and parameter share the list of the message', async (platform) => {
      const { send, runner } = await start(platform, InjectedModule);
      const names = Array.from({ length: 50 }, (_each, index) => `${index}`);
      expect(await Promise.all(names.map((name) => send('add', name)))).toEqual(names.map(() => ['gateway', 'service']));
      await runner.onIdle();
      for (const name of names) {
        expect(events.filter((event) => event.endsWith(` of ${name}`))).toEqual([`gateway's task of ${name}`, `service's task of ${name}`]);
      }
    });

    it('connections and guards are outside any message: what they add starts at once', async () => {
      const { send, runner } = await start('Express', InjectedModule);
      await runner.onIdle();
      expect(events).toEqual(['connected']);
      const answered = send('guarded');
      await entered.opened;
      await runner.onIdle();
      expect(events).toEqual(['connected', "guard's task"]);
      held.open();
      expect(await answered).toBe('let in');
    });
  });

  describe('injection with Scope.REQUEST', () => {
    @WebSocketGateway()
    @Observed()
    @UseFilters(Revealed)
    class RequestScopedGateway {
      constructor(private readonly service: Service) {}

      @SubscribeMessage('add')
      add(@MessageBody() { id, data }: Message) {
        this.service.add(data);
        return { id, data: 'answered' };
      }
    }

    @Module({ imports: [BackgroundTasksModule], providers: [RequestScopedGateway, Service] })
    class RequestScopedModule {}

    if (isNest12) {
      it('is refused with the first task: what Nest calls the request is the client, one for all of its messages', async () => {
        const { send, runner } = await start('Express', RequestScopedModule);
        expect(await send('add', 'x')).toBe('failed');
        expect(events).toEqual([
          expect.stringMatching(/^BACKGROUND_TASK_UNSUPPORTED_CONTEXT: .*client of a gateway \(type "ws"\).*@BackgroundTasks\(\)/),
        ]);
        expect(runner.pendingCount).toBe(0);
      });
    } else {
      it('is not there: Nest 11 has no request scope in gateways, and injects nothing', async () => {
        const { send } = await start('Express', RequestScopedModule);
        expect(await send('add', 'x')).toBe('failed');
        expect(events).toEqual([expect.stringContaining('undefined')]);
      });
    }
  });

  if (!isNest12) {
    it('needs the interceptor on Nest 11, which has no global ones in gateways: the first use says so', async () => {
      @WebSocketGateway()
      @UseFilters(Revealed)
      class UnobservedGateway {
        @SubscribeMessage('add')
        add(@BackgroundTasks() tasks: BackgroundTasks) {
          tasks.addTask(record, 'task');
        }
      }

      @Module({ imports: [BackgroundTasksModule], providers: [UnobservedGateway] })
      class UnobservedModule {}

      const { send } = await start('Express', UnobservedModule);
      expect(await send('add', 'x')).toBe('failed');
      expect(events).toEqual([
        expect.stringMatching(/^BACKGROUND_TASK_MODULE_NOT_IMPORTED: .*`@UseInterceptors\(BackgroundTasksInterceptor\)`/),
      ]);
    });
  }
});
