// Guarantees 2, 4 and 8, for microservices: one list per message, flushed after the reply.
import type { AddressInfo, Server as NetServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import {
  type CallHandler,
  type CanActivate,
  Catch,
  Controller,
  type ExecutionContext,
  Get,
  type INestMicroservice,
  Injectable,
  Module,
  type NestInterceptor,
  type RpcExceptionFilter,
  Scope,
  type Type,
  UseFilters,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import {
  BaseRpcContext,
  ClientProxyFactory,
  type CustomTransportStrategy,
  EventPattern,
  MessagePattern,
  type MicroserviceOptions,
  Payload,
  RpcException,
  Server,
  Transport,
} from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { BackgroundTasks, BackgroundTasksError, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { EMPTY, Observable, from, lastValueFrom, map, race, throwError, toArray } from 'rxjs';
import { RecordedLogs, createApp, isNest12, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { turns } from '../support/turns.js';

/** The events, in order: replies as the transport gets them, and tasks. */
const events: string[] = [];
/** Opens when a handler of events has added its tasks. */
let entered: Gate;
/** Opens when it may go on. */
let held: Gate;
const open: { close(): unknown }[] = [];

beforeEach(() => {
  events.length = 0;
  entered = gate();
  held = gate();
});

afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

function record(what: string): void {
  events.push(what);
}

/** A microservice that runs, what sends it messages, and what it is made of. */
interface TestMicroservice {
  readonly app: INestMicroservice;
  readonly runner: BackgroundTasksRunner;
  readonly logs: RecordedLogs;
  /** The values that a request is answered with. */
  request(pattern: string, data: unknown): Promise<unknown[]>;
  emit(pattern: string, data: unknown): Promise<unknown>;
}

async function startMicroservice(module: Type, options: MicroserviceOptions): Promise<Omit<TestMicroservice, 'request' | 'emit'>> {
  const logs = new RecordedLogs();
  const testingModule = await Test.createTestingModule({ imports: [module] })
    .setLogger(logs)
    .compile();
  const app = testingModule.createNestMicroservice(options);
  app.useLogger(logs);
  app.enableShutdownHooks();
  await app.listen();
  open.push(app);
  return { app, runner: app.get(BackgroundTasksRunner), logs };
}

async function overTcp(module: Type): Promise<TestMicroservice> {
  const serializer = {
    serialize: (packet: { response?: unknown; err?: unknown }) => {
      if (packet.response !== undefined) record(`reply ${String(packet.response)}`);
      return packet;
    },
  };
  const started = await startMicroservice(module, { transport: Transport.TCP, options: { host: '127.0.0.1', port: 0, serializer } });
  const { port } = started.app.unwrap<NetServer>().address() as AddressInfo;
  const client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
  open.push(client);
  return {
    ...started,
    request: (pattern, data) => lastValueFrom(client.send<unknown>(pattern, data).pipe(toArray())),
    emit: (pattern, data) => lastValueFrom(client.emit(pattern, data), { defaultValue: undefined }),
  };
}

/** A transport of one's own, as Nest's documentation has it: the messages never leave the process. */
class MemoryServer extends Server implements CustomTransportStrategy {
  listen(callback: () => void) {
    callback();
  }
  close() {}
  on() {}
  unwrap<T>(): T {
    throw new Error('There is no server underneath');
  }
  request(pattern: string, data: unknown, context?: BaseRpcContext): Promise<unknown[]> {
    const handled = this.getHandlerByPattern(pattern)!(data, context);
    return new Promise((resolve, reject) => {
      const values: unknown[] = [];
      const stream = from(handled.then((result) => this.transformToObservable(result) as Observable<Observable<unknown>>));
      stream.subscribe((values$) =>
        this.send(values$, ({ response, err, isDisposed }) => {
          if (response !== undefined) {
            record(`reply ${String(response)}`);
            values.push(response);
          }
          if (err) reject(err);
          else if (isDisposed) resolve(values);
        }),
      );
    });
  }
  async emit(pattern: string, data: unknown): Promise<void> {
    await this.handleEvent(pattern, { pattern, data }, new BaseRpcContext([pattern]));
  }
}

async function inMemory(module: Type): Promise<TestMicroservice> {
  const strategy = new MemoryServer();
  const started = await startMicroservice(module, { strategy });
  return {
    ...started,
    request: (pattern, data) => strategy.request(pattern, data, new BaseRpcContext([pattern])),
    emit: (pattern, data) => strategy.emit(pattern, data),
  };
}

@Injectable()
class Service {
  constructor(private readonly tasks: BackgroundTasks) {}
  add(name: string) {
    this.tasks.addTask({ name: 'service' }, record, `service's task of ${name}`);
  }
}

@Controller()
class MessageController {
  constructor(private readonly service: Service) {}

  @MessagePattern('request')
  async request(@Payload() name: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ name: 'handler' }, record, `handler's task of ${name}`);
    await new Promise(setImmediate);
    this.service.add(name);
    return tasks.tasks.map((task) => task.name).join(' and ');
  }

  @MessagePattern('stream')
  stream(@Payload() name: string, @BackgroundTasks() tasks: BackgroundTasks) {
    return new Observable<string>((subscriber) => {
      tasks.addTask(record, `task of ${name}`);
      subscriber.next('1');
      setImmediate(() => {
        subscriber.next('2');
        setImmediate(() => {
          this.service.add(name);
          subscriber.next('3');
          subscriber.complete();
        });
      });
    });
  }

  @EventPattern<string>('event')
  async event(@Payload() name: string, @BackgroundTasks() tasks: BackgroundTasks) {
    this.service.add(name);
    tasks.addTask(record, `task of ${name}`);
    entered.open();
    await held.opened;
    record(`handled ${name}`);
  }

  @EventPattern<string>('nothing')
  nothing() {
    this.service.add('nothing');
    entered.open();
    return EMPTY;
  }

  @MessagePattern('fail')
  fail(@Payload() how: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(record, 'on success');
    tasks.addTask({ runOn: 'failure' }, record, 'on failure');
    if (how === 'stream') return throwError(() => new RpcException('the stream fails'));
    throw new RpcException('the handler fails');
  }
}

const scopes = [
  ['Scope.REQUEST', BackgroundTasksModule],
  ['Scope.DEFAULT', BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
] as const;

describe.each([
  ['TCP', overTcp],
  ['a transport of one’s own', inMemory],
])('a microservice over %s', (_, start) => {
  describe.each(scopes)('with %s', (_scope, tasksModule) => {
    @Module({ imports: [tasksModule], controllers: [MessageController], providers: [Service] })
    class MessageModule {}

    it('a request has one list, which runs after the reply was handed to the transport', async () => {
      const { request, runner } = await start(MessageModule);
      expect(await request('request', 'a')).toEqual(['handler and service']);
      await runner.onIdle();
      expect(events).toEqual(['reply handler and service', "handler's task of a", "service's task of a"]);
    });

    it('the tasks of a stream of several values run after the last one', async () => {
      const { request, runner } = await start(MessageModule);
      expect(await request('stream', 'a')).toEqual(['1', '2', '3']);
      await runner.onIdle();
      expect(events).toEqual(['reply 1', 'reply 2', 'reply 3', 'task of a', "service's task of a"]);
    });

    it('the tasks of an event run after its handler has ended', async () => {
      const { emit, runner } = await start(MessageModule);
      const emitted = emit('event', 'a');
      await entered.opened;
      expect(events).toEqual([]);
      expect(runner.pendingCount).toBe(2);
      held.open();
      await emitted;
      await runner.onIdle();
      expect(events).toEqual(['handled a', "service's task of a", 'task of a']);
    });

    it('the tasks of an event run also after a stream without values', async () => {
      const { emit, runner } = await start(MessageModule);
      await emit('nothing', '');
      await entered.opened;
      await runner.onIdle();
      expect(events).toEqual(["service's task of nothing"]);
    });

    it.each(['throw', 'stream'])('a handler that fails makes the outcome a failure: %s', async (how) => {
      const { request, runner } = await start(MessageModule);
      await expect(request('fail', how)).rejects.toBeDefined();
      await runner.onIdle();
      expect(events).toEqual(['on failure']);
      expect(runner.discardedCount).toBe(1);
    });

    it('100 messages at once never mix', async () => {
      const { request, runner, logs } = await start(MessageModule);
      const names = Array.from({ length: 100 }, (_each, index) => `${index}`);
      const replies = await Promise.all(names.map((name) => request('request', name)));
      expect(replies).toEqual(names.map(() => ['handler and service']));
      await runner.onIdle();
      for (const name of names) {
        expect(events.filter((event) => event.endsWith(` of ${name}`))).toEqual([`handler's task of ${name}`, `service's task of ${name}`]);
      }
      expect(logs.lines).toEqual([]);
    });

    it('app.close() waits for handlers and for tasks', async () => {
      const { app, emit } = await start(MessageModule);
      const emitted = emit('event', 'a');
      await entered.opened;
      const closed = app.close();
      held.open();
      await Promise.all([closed, emitted]);
      expect(events).toEqual(['handled a', "service's task of a", 'task of a']);
    });
  });
});

describe.each(scopes)('what surrounds a handler of messages, with %s', (scope, tasksModule) => {
  @Injectable()
  class Guard implements CanActivate {
    constructor(private readonly tasks: BackgroundTasks) {}
    canActivate(context: ExecutionContext) {
      this.tasks.addTask(record, 'guard, on success');
      this.tasks.addTask({ runOn: 'failure' }, record, 'guard, on failure');
      return context.switchToRpc().getData<string>() !== 'denied';
    }
  }

  @Injectable()
  class Interceptor implements NestInterceptor {
    constructor(private readonly tasks: BackgroundTasks) {}
    intercept(_: ExecutionContext, next: CallHandler) {
      this.tasks.addTask({ runOn: 'always' }, record, 'interceptor');
      return next.handle();
    }
  }

  @Injectable()
  @Catch(RpcException)
  class Filter implements RpcExceptionFilter<RpcException> {
    constructor(private readonly tasks: BackgroundTasks) {}
    catch(error: RpcException) {
      this.tasks.addTask({ runOn: 'failure' }, record, 'filter');
      return throwError(() => error.getError());
    }
  }

  @Controller()
  class SurroundedController {
    @MessagePattern('surrounded')
    @UseInterceptors(Interceptor)
    @UseFilters(Filter)
    surrounded(@Payload() end: string) {
      if (end === 'badly') throw new RpcException('the handler fails');
      return end;
    }

    @MessagePattern('guarded')
    @UseGuards(Guard)
    guarded(@Payload() end: string) {
      return end;
    }
  }

  @Module({ imports: [tasksModule], controllers: [SurroundedController] })
  class SurroundedModule {}

  it('interceptors share its list', async () => {
    const { request, runner } = await inMemory(SurroundedModule);
    expect(await request('surrounded', 'well')).toEqual(['well']);
    await runner.onIdle();
    expect(events).toEqual(['reply well', 'interceptor']);
  });

  it('interceptors may answer early: its tasks wait for the handler', async () => {
    const giveUp: NestInterceptor = { intercept: (_, next) => race(next.handle(), from(entered.opened).pipe(map(() => 'given up'))) };

    @Controller()
    class SlowController {
      @MessagePattern('slow')
      @UseInterceptors(giveUp)
      async slow(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(record, 'task');
        entered.open();
        await held.opened;
        record('handled');
      }
    }

    @Module({ imports: [tasksModule], controllers: [SlowController] })
    class SlowModule {}

    const { request, runner } = await inMemory(SlowModule);
    expect(await request('slow', '')).toEqual(['given up']);
    await turns();
    expect(events).toEqual(['reply given up']);
    held.open();
    await runner.onIdle();
    expect(events).toEqual(['reply given up', 'handled', 'task']);
  });

  it('filters share its list', async () => {
    const { request, runner } = await inMemory(SurroundedModule);
    await expect(request('surrounded', 'badly')).rejects.toBe('the handler fails');
    await runner.onIdle();
    expect(events).toEqual(['interceptor', 'filter']);
  });

  // Nest 12 shows a message to this package before its guards, Nest 11 does not.
  if (isNest12) {
    it('guards share its list, and one that denies makes the outcome a failure', async () => {
      const { request, runner } = await inMemory(SurroundedModule);
      expect(await request('guarded', 'let in')).toEqual(['let in']);
      await runner.onIdle();
      expect(events.splice(0)).toEqual(['reply let in', 'guard, on success']);
      await expect(request('guarded', 'denied')).rejects.toBeDefined();
      await runner.onIdle();
      expect(events).toEqual(['guard, on failure']);
    });
  } else if (scope === 'Scope.REQUEST') {
    it('guards are refused: Nest 11 does not show when a guard denies', async () => {
      const { request, runner } = await inMemory(SurroundedModule);
      await expect(request('guarded', 'let in')).rejects.toBeDefined();
      expect(runner.pendingCount).toBe(0);
    });
  } else {
    it('guards are outside the message: Nest 11 does not show when a guard denies', async () => {
      const { request, runner } = await inMemory(SurroundedModule);
      await expect(request('guarded', 'denied')).rejects.toBeDefined();
      await runner.onIdle();
      expect(events).toEqual(['guard, on success']);
      expect(runner.discardedCount).toBe(1);
    });
  }
});

/** Answers with the error's code and message, which Nest would log and hide. */
@Catch(BackgroundTasksError)
class Revealed implements RpcExceptionFilter<BackgroundTasksError> {
  catch({ code, message }: BackgroundTasksError) {
    return throwError(() => ({ code, message }));
  }
}

@Controller()
@UseFilters(Revealed)
class DecoratedController {
  @MessagePattern('decorated')
  decorated(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(record, 'task of a message');
    return 'answered';
  }
}

@Controller()
@UseFilters(Revealed)
class InjectedController {
  constructor(private readonly service: Service) {}

  @MessagePattern('injected')
  injected() {
    this.service.add('a message');
    return 'answered';
  }
}

describe('a transport that calls its handlers without a context', () => {
  @Module({ imports: [BackgroundTasksModule], controllers: [DecoratedController, InjectedController], providers: [Service] })
  class ContextlessModule {}

  it.each(['decorated', 'injected'])('is not supported, and the first use says so: %s', async (pattern) => {
    const strategy = new MemoryServer();
    const { runner } = await startMicroservice(ContextlessModule, { strategy });
    await expect(strategy.request(pattern, 'a')).rejects.toEqual({
      code: 'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
      message: expect.stringMatching(/(?=.*"rpc")(?=.*without a context)/),
    });
    expect(runner.pendingCount).toBe(0);
  });
});

describe.each(platforms)('a hybrid application on %s', (platform) => {
  @Controller()
  class HttpController {
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(record, 'task of HTTP');
      return 'answered';
    }
  }

  @Module({
    imports: [BackgroundTasksModule],
    controllers: [HttpController, DecoratedController, InjectedController],
    providers: [Service],
  })
  class HybridModule {}

  async function startHybrid(inheritAppConfig: boolean) {
    const strategy = new MemoryServer();
    const started = await createApp(platform, HybridModule, {
      configure: (app) => app.connectMicroservice<MicroserviceOptions>({ strategy }, { inheritAppConfig }),
    });
    await started.app.startAllMicroservices();
    return { ...started, request: (pattern: string) => strategy.request(pattern, 'a', new BaseRpcContext([pattern])) };
  }

  it('has lists for requests and for messages, and one runner', async () => {
    const { http, request, runner } = await startHybrid(true);
    await http.get('/').expect(200, 'answered');
    await runner.onIdle();
    expect(await request('decorated')).toEqual(['answered']);
    await runner.onIdle();
    expect(await request('injected')).toEqual(['answered']);
    await runner.onIdle();
    expect(events).toEqual(['task of HTTP', 'reply answered', 'task of a message', 'reply answered', "service's task of a message"]);
  });

  it('without inheritAppConfig, the first use says what to do, and nothing is lost in silence', async () => {
    const { http, request, runner } = await startHybrid(false);
    const whatToDo = expect.stringContaining('{ inheritAppConfig: true }');
    await expect(request('decorated')).rejects.toEqual({ code: 'BACKGROUND_TASK_MODULE_NOT_IMPORTED', message: whatToDo });
    await expect(request('injected')).rejects.toEqual({ code: 'BACKGROUND_TASK_UNSUPPORTED_CONTEXT', message: whatToDo });
    await http.get('/').expect(200, 'answered');
    await runner.onIdle();
    expect(events).toEqual(['task of HTTP']);
  });
});
