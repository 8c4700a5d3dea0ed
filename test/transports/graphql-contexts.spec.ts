// Guarantee 2, for GraphQL: the list belongs to the operation, whatever the application puts into its context.
import { EventEmitter, once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import {
  type CallHandler,
  type DynamicModule,
  type ExecutionContext,
  Injectable,
  Module,
  type NestInterceptor,
  UseInterceptors,
} from '@nestjs/common';
import { GraphQLModule, Mutation, Query, Resolver, Subscription } from '@nestjs/graphql';
import { MercuriusDriver, type MercuriusDriverConfig } from '@nestjs/mercurius';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createClient } from 'graphql-ws';
import { catchError, of, retry } from 'rxjs';
import { WebSocket } from 'ws';
import { type Platform, createApp } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

let ran: string[];
let tries: number;
let ticks: EventEmitter;
let subscribed: Gate;
let left: Gate;

beforeEach(() => {
  ran = [];
  tries = 0;
  ticks = new EventEmitter();
  subscribed = gate();
  left = gate();
});

@Injectable()
class Service {
  constructor(readonly tasks: BackgroundTasks) {}
}

class FallbackInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler) {
    return next.handle().pipe(catchError(() => of('fallback')));
  }
}

class RetryInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler) {
    return next.handle().pipe(retry(1));
  }
}

/** For singletons, which subscriptions need. */
@Resolver()
class ParameterResolver {
  @Query(() => String)
  ping() {
    return 'pong';
  }

  @Mutation(() => String)
  @UseInterceptors(FallbackInterceptor)
  caught(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => ran.push('caught'));
    throw new Error('caught');
  }

  @Mutation(() => String)
  @UseInterceptors(FallbackInterceptor)
  next(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => ran.push('next'));
    return 'next';
  }

  @Query(() => String)
  @UseInterceptors(RetryInterceptor)
  async flaky() {
    await subscribed.opened;
    if (tries++ === 0) throw new Error('retried');
    return 'flaky';
  }

  @Query(() => String)
  @UseInterceptors(RetryInterceptor)
  async alone(@BackgroundTasks() tasks: BackgroundTasks) {
    const run = ++tries;
    tasks.addTask(() => ran.push(`run ${run}`));
    if (run === 1) throw new Error('retried');
    return 'alone';
  }

  @Query(() => String)
  solid(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => ran.push('solid'));
    subscribed.open();
    return 'solid';
  }

  @Subscription(() => String, { resolve: (value: string) => value })
  async *waiting(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => {
      ran.push('subscription');
      left.open();
    });
    subscribed.open();
    await once(ticks, 'tick');
    yield 'tick';
  }
}

@Resolver()
class InjectedResolver {
  constructor(private readonly service: Service) {}

  @Query(() => String)
  injected(@BackgroundTasks() tasks: BackgroundTasks) {
    this.service.tasks.addTask(() => ran.push('injected'));
    return String(this.service.tasks === tasks);
  }

  @Mutation(() => String)
  fails() {
    this.service.tasks.addTask(() => ran.push('of a failure'));
    throw new Error('the mutation fails');
  }
}

const apollo: ApolloDriverConfig = { driver: ApolloDriver, autoSchemaFile: true };
const mercurius: MercuriusDriverConfig = { driver: MercuriusDriver, autoSchemaFile: true };
/** As guards need it that read headers, and cookies that they set. */
const context = (req: object, res: object): object => ({ req, res });

const drivers: [name: string, platform: Platform, graphql: () => DynamicModule][] = [
  [
    'Apollo on Express',
    'Express',
    () =>
      GraphQLModule.forRoot({
        ...apollo,
        context: (arg: { req: object; res: object }) => context(arg.req, arg.res),
        subscriptions: { 'graphql-ws': true },
      }),
  ],
  [
    'Apollo on Fastify',
    'Fastify',
    () =>
      GraphQLModule.forRoot({
        ...apollo,
        context: (request: object, reply: object) => context(request, reply),
        subscriptions: { 'graphql-ws': true },
      }),
  ],
  [
    'Mercurius',
    'Fastify',
    () =>
      GraphQLModule.forRoot({
        ...mercurius,
        context: (request: object, reply: object) => context(request, reply),
        subscription: { fullWsTransport: true, context: (_: unknown, request: object) => ({ req: request }) },
      }),
  ],
];

describe.each(drivers)('a context with the request, and with the response, on %s', (name, platform, graphql) => {
  const dispose: (() => unknown)[] = [];

  afterEach(async () => {
    for (const end of dispose.splice(0)) await end();
  });

  async function start(resolvers: (typeof InjectedResolver | typeof ParameterResolver)[]) {
    @Module({ imports: [BackgroundTasksModule, graphql()], providers: [Service, ...resolvers] })
    class AppModule {}
    const { http, url, runner, logs } = await createApp(platform, AppModule);
    const client = createClient({ url: `${url.replace('http', 'ws')}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0 });
    dispose.push(() => client.dispose());
    return { client, runner, logs, post: async (query: string) => (await http.post('/graphql').send({ query })).body };
  }

  it('the injected list is that of the parameter, and has the outcome of the request', async () => {
    const { post, runner } = await start([InjectedResolver]);
    expect(await post('{ injected }')).toEqual({ data: { injected: 'true' } });
    await runner.onIdle();
    expect(await post('mutation { fails }')).toHaveProperty('errors');
    await runner.onIdle();
    expect(ran).toEqual(['injected']);
  });

  it('a resolver that has failed, and whose error was caught, is not run again by the next one', async () => {
    const { post, runner } = await start([ParameterResolver]);
    expect(await post('mutation { caught next }')).toEqual({ data: { caught: 'fallback', next: 'next' } });
    await runner.onIdle();
    expect(ran).toEqual(['caught', 'next']);
  });

  it('a resolver that is run again, alone, runs the tasks of its last run', async () => {
    const { post, runner } = await start([ParameterResolver]);
    expect(await post('{ alone }')).toEqual({ data: { alone: 'alone' } });
    await runner.onIdle();
    expect(ran).toEqual(['run 2']);
  });

  it('a resolver that is run again leaves the tasks of those beside it alone', async () => {
    const { post, runner } = await start([ParameterResolver]);
    expect(await post('{ flaky solid }')).toEqual({ data: { flaky: 'flaky', solid: 'solid' } });
    await runner.onIdle();
    expect(ran).toEqual(['solid']);
  });

  // Apollo does not call the function for operations over a WebSocket on Express.
  it('an operation over a WebSocket has a list of its own, also an injected one', async () => {
    const { client, runner } = await start([InjectedResolver]);
    for (let times = 0; times < 2; times++) {
      const values = [];
      for await (const value of client.iterate({ query: '{ injected }' })) values.push(value);
      expect(values).toMatchObject([{ data: { injected: expect.any(String) } }]);
      await runner.onIdle();
    }
    for await (const value of client.iterate({ query: 'mutation { fails }' })) expect(value).toHaveProperty('errors');
    for await (const value of client.iterate({ query: '{ injected }' })) expect(value).toHaveProperty('data.injected');
    await runner.onIdle();
    expect(ran).toEqual(['injected', 'injected', 'injected']);
  });

  it('the tasks of a generator run when its client leaves, although it waits for its next event', async () => {
    const { client } = await start([ParameterResolver]);
    const values = client.iterate({ query: 'subscription { waiting }' });
    const first = values.next();
    await subscribed.opened;
    await values.return?.();
    await first;
    await left.opened;
    expect(ran).toEqual(['subscription']);
    ticks.emit('tick');
  });
});
