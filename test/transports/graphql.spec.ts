// Guarantees 2, 3, 4 and 8, for GraphQL: one list per request or subscription, flushed once.
import { EventEmitter, on } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ApolloDriver, type ApolloDriverConfig } from '@nestjs/apollo';
import { type CanActivate, type DynamicModule, type ExecutionContext, Injectable, Module, Scope, UseGuards } from '@nestjs/common';
import {
  Args,
  Context,
  Field,
  GqlExecutionContext,
  GraphQLModule,
  Int,
  Mutation,
  ObjectType,
  Parent,
  Query,
  ResolveField,
  Resolver,
  Subscription,
} from '@nestjs/graphql';
import { MercuriusDriver, type MercuriusDriverConfig } from '@nestjs/mercurius';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { type Client, createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { type Platform, type TestApp, createApp } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

/** The events, in order: the end of responses, and tasks. */
const events: string[] = [];

type Values = ReturnType<Client['iterate']>;

const clients: Client[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) await client.dispose();
});

beforeEach(() => {
  events.length = 0;
  counters = new EventEmitter();
  flushed = gate();
});

function record(what: string): void {
  events.push(what);
}

@Injectable()
class Service {
  constructor(private readonly tasks: BackgroundTasks) {}
  add(name: string) {
    this.tasks.addTask(record, `service of ${name}`);
  }
}

@Injectable()
class Guard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}
  canActivate(context: ExecutionContext) {
    const { name } = GqlExecutionContext.create(context).getArgs<{ name: string }>();
    this.tasks.addTask({ runOn: 'always' }, record, `guard of ${name}`);
    return name !== 'nobody';
  }
}

@ObjectType()
class Author {
  @Field()
  name!: string;
}

@Resolver(() => Author)
class InjectedResolver {
  constructor(private readonly service: Service) {}

  @Query(() => Author)
  @UseGuards(Guard)
  author(@Args('name') name: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(record, `query of ${name}`);
    this.service.add(name);
    return { name };
  }

  @Mutation(() => Author)
  async rename(@Args('name') name: string, @BackgroundTasks() tasks: BackgroundTasks) {
    await new Promise(setImmediate);
    tasks.addTask(record, `mutation of ${name}`);
    if (name === 'nobody') throw new Error('the mutation fails');
    return { name };
  }

  @ResolveField(() => Int)
  async books(@Parent() { name }: Author, @BackgroundTasks() tasks: BackgroundTasks) {
    await new Promise(setImmediate);
    tasks.addTask(record, `field of ${name}`);
    if (name === 'nobody') throw new Error('the field fails');
    return 1;
  }
}

/** Emits the counts that are subscribed to, by name. */
let counters: EventEmitter;
/** Opens when they are. */
let subscribed: Gate;
/** Opens when the task of the first count of a subscription runs. */
let flushed: Gate;

@ObjectType()
class Count {
  @Field(() => Int)
  value!: number;
}

@Resolver(() => Count)
class CountResolver {
  /** Nest has it that a resolver of subscriptions is a singleton. */
  @Subscription(() => Count, { resolve: ([value]: [number]) => ({ value }) })
  counts(@Args('name') name: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(record, `started ${name}`);
    tasks.addTask({ runOn: 'failure' }, record, `failed ${name}`);
    setImmediate(() => subscribed.open());
    return on(counters, name, { close: ['end'] });
  }

  @Query(() => Count)
  async count(@BackgroundTasks() tasks: BackgroundTasks) {
    await new Promise(setImmediate);
    tasks.addTask(record, 'query');
    return { value: 3 };
  }

  @ResolveField(() => Int)
  async doubled(@Parent() { value }: Count, @BackgroundTasks() tasks: BackgroundTasks) {
    await new Promise(setImmediate);
    tasks.addTask(record, `doubled ${value}`);
    if (value === 1) tasks.addTask({ name: 'flushed' }, flushed.open);
    return value * 2;
  }
}

const apollo = GraphQLModule.forRoot<ApolloDriverConfig>({
  driver: ApolloDriver,
  autoSchemaFile: true,
  graphiql: false,
  playground: false,
  allowBatchedHttpRequests: true,
  subscriptions: { 'graphql-ws': true },
});

const mercurius = GraphQLModule.forRoot<MercuriusDriverConfig>({
  driver: MercuriusDriver,
  autoSchemaFile: true,
  allowBatchedQueries: true,
  subscription: { fullWsTransport: true },
});

describe.each<[string, Platform, DynamicModule]>([
  ['Apollo', 'Express', apollo],
  ['Apollo', 'Fastify', apollo],
  ['Mercurius', 'Fastify', mercurius],
])('GraphQL with %s on %s', (_driver, platform, graphqlModule) => {
  describe.each([
    ['Scope.REQUEST', BackgroundTasksModule],
    ['Scope.DEFAULT', BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
  ] as const)('with %s', (_scope, tasksModule) => {
    @Module({ imports: [tasksModule, graphqlModule], providers: [InjectedResolver, CountResolver, Service] })
    class AuthorModule {}

    async function start(): Promise<TestApp & { post(body: object): Promise<{ data: unknown; errors?: { message: string }[] }> }> {
      const app = await createApp(platform, AuthorModule, {
        configure: (nest) =>
          nest.use((_request: unknown, response: NodeJS.EventEmitter, next: () => void) => {
            response.once('finish', () => record('response'));
            next();
          }),
      });
      return { ...app, runner: app.runner, post: async (body) => (await app.http.post('/graphql').send(body)).body };
    }

    it('all resolvers, field resolvers and guards share one list, flushed once after the response', async () => {
      const { post, runner } = await start();
      const { data } = await post({ query: '{ a: author(name: "a") { name books } b: author(name: "b") { name books } }' });
      expect(data).toEqual({ a: { name: 'a', books: 1 }, b: { name: 'b', books: 1 } });
      await runner.onIdle();
      expect(events[0]).toBe('response');
      expect(events.toSorted()).toEqual(
        ['response', ...['a', 'b'].flatMap((name) => ['field', 'guard', 'query', 'service'].map((who) => `${who} of ${name}`))].toSorted(),
      );
      for (const name of ['a', 'b']) {
        expect(events.filter((event) => event.endsWith(` of ${name}`))).toEqual(
          ['guard', 'query', 'service', 'field'].map((who) => `${who} of ${name}`),
        );
      }
    });

    it('all queries of a batch share one list', async () => {
      const { post, runner } = await start();
      const query = (name: string) => ({ query: `{ author(name: "${name}") { name books } }` });
      expect(await post([query('a'), query('b')])).toHaveLength(2);
      await runner.onIdle();
      expect(events[0]).toBe('response');
      expect(events).toHaveLength(9);
    });

    it('20 requests at once never mix', async () => {
      const { post, runner, logs } = await start();
      const names = Array.from({ length: 20 }, (_each, index) => `${index}`);
      await Promise.all(names.map((name) => post({ query: `{ author(name: "${name}") { name books } }` })));
      await runner.onIdle();
      for (const name of names) {
        expect(events.filter((event) => event.endsWith(` of ${name}`))).toEqual(
          ['guard', 'query', 'service', 'field'].map((who) => `${who} of ${name}`),
        );
      }
      expect(logs.lines).toEqual([]);
    });

    it.each([
      ['a resolver that throws', 'mutation { a: rename(name: "a") { name } b: rename(name: "nobody") { name } }', [], 2],
      ['a field that throws', 'mutation { rename(name: "a") { name } }', ['mutation of a'], 0],
      ['a guard that denies', '{ author(name: "nobody") { name } }', ['guard of nobody'], 0],
    ])('%s fails the outcome of the request', async (_what, query, ran, discarded) => {
      const { post, runner } = await start();
      await post({ query });
      await runner.onIdle();
      expect(events.slice(1)).toEqual(ran);
      expect(runner.discardedCount).toBe(discarded);
    });

    describe('over a WebSocket', () => {
      const subscription = (name: string) => ({ query: `subscription { counts(name: "${name}") { value doubled } }` });

      async function connect(): Promise<TestApp & { client: Client }> {
        const app = await start();
        const client = createClient({ url: `${app.url.replace('http', 'ws')}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0 });
        clients.push(client);
        return { ...app, runner: app.runner, client };
      }

      /** Subscribes, and sees the first count. */
      async function subscribe(client: Client, name: string): Promise<Values> {
        const values = client.iterate(subscription(name));
        subscribed = gate();
        const first = values.next();
        await subscribed.opened;
        counters.emit(name, 1);
        expect((await first).value).toEqual({ data: { counts: { value: 1, doubled: 2 } } });
        return values;
      }

      it('a subscription has one list, flushed when the subscription ends by itself', async () => {
        const { client, runner, logs } = await connect();
        const values = await subscribe(client, 'a');
        counters.emit('a', 2);
        expect((await values.next()).value).toEqual({ data: { counts: { value: 2, doubled: 4 } } });
        expect(events).toEqual([]);
        expect(runner.pendingCount).toBe(5);
        counters.emit('end');
        expect((await values.next()).done).toBe(true);
        await runner.onIdle();
        expect(events).toEqual(['started a', 'doubled 1', 'doubled 2']);
        expect(logs.of('warn')).toEqual([]);
      });

      it('a subscription is flushed when the client ends it, and others of the connection are not', async () => {
        const { client, runner } = await connect();
        const a = await subscribe(client, 'a');
        await subscribe(client, 'b');
        expect(runner.pendingCount).toBe(8);
        await a.return!();
        await flushed.opened;
        expect(events).toEqual(['started a', 'doubled 1']);
        expect(runner.pendingCount).toBe(4);
      });

      it('a subscription that fails makes the outcome a failure', async () => {
        const { client, runner } = await connect();
        const values = await subscribe(client, 'a');
        counters.emit('error', new Error('the source fails'));
        await Promise.allSettled([values.next()]);
        await runner.onIdle();
        expect(events).toEqual(['failed a']);
      });

      it('app.close() ends a subscription, and waits for its tasks', async () => {
        const { app, client, runner, logs } = await connect();
        await subscribe(client, 'a');
        await app.close();
        // Nest 11 would stop GraphQL a second time, which fails.
        app.close = () => Promise.resolve();
        expect(events).toEqual(['started a', 'doubled 1']);
        expect(runner.pendingCount).toBe(0);
        expect(logs.of('error')).toEqual([]);
      });

      it('a query has one list, too, flushed after its last resolver', async () => {
        const { client, runner, logs } = await connect();
        const values = client.iterate({ query: '{ count { doubled } }' });
        expect((await values.next()).value).toEqual({ data: { count: { doubled: 6 } } });
        await runner.onIdle();
        expect(events).toEqual(['query', 'doubled 3']);
        expect(logs.of('warn')).toEqual([]);
      });
    });
  });

  it('the singleton of Scope.DEFAULT follows a subscription, its guard and its generator', async () => {
    @Injectable()
    class SubscriptionGuard implements CanActivate {
      constructor(private readonly tasks: BackgroundTasks) {}
      canActivate() {
        this.tasks.addTask(record, 'guard');
        return true;
      }
    }

    @Resolver()
    class SubscriptionResolver {
      constructor(private readonly tasks: BackgroundTasks) {}

      @Query(() => Int)
      nothing() {
        return 0;
      }

      @Subscription(() => Int, { resolve: (value: number) => value })
      @UseGuards(SubscriptionGuard)
      async *generated() {
        this.tasks.addTask(record, 'first value');
        yield 1;
        this.tasks.addTask(record, 'second value');
        yield 2;
        record('ended');
      }
    }

    @Module({
      imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT }), graphqlModule],
      providers: [SubscriptionResolver],
    })
    class SubscriptionModule {}

    const { url, runner } = await createApp(platform, SubscriptionModule);
    const client = createClient({ url: `${url.replace('http', 'ws')}/graphql`, webSocketImpl: WebSocket, retryAttempts: 0 });
    clients.push(client);
    const values: unknown[] = [];
    for await (const { data } of client.iterate({ query: 'subscription { generated }' })) values.push(data);
    expect(values).toEqual([{ generated: 1 }, { generated: 2 }]);
    await runner.onIdle();
    expect(events).toEqual(['ended', 'guard', 'first value', 'second value']);
  });
});

/** The context of an application, with the response in it, as many have it. */
const withResponse = (...args: [{ req: object; res: object }] | [req: object, res: object]) => {
  const [req, res] = args.length === 1 ? [args[0].req, args[0].res] : args;
  return { req, res };
};

describe.each<[string, Platform, DynamicModule]>([
  ['Apollo', 'Express', GraphQLModule.forRoot<ApolloDriverConfig>({ driver: ApolloDriver, autoSchemaFile: true, context: withResponse })],
  ['Apollo', 'Fastify', GraphQLModule.forRoot<ApolloDriverConfig>({ driver: ApolloDriver, autoSchemaFile: true, context: withResponse })],
  [
    'Mercurius',
    'Fastify',
    GraphQLModule.forRoot<MercuriusDriverConfig>({ driver: MercuriusDriver, autoSchemaFile: true, context: withResponse }),
  ],
])('BackgroundTasks.of() of a context that has the response, with %s on %s', (_driver, platform, graphqlModule) => {
  @Resolver()
  class FindingResolver {
    @Query(() => String)
    find(@Args('name') name: string, @Context() context: object, @BackgroundTasks() tasks: BackgroundTasks) {
      BackgroundTasks.of(context).addTask(record, `found ${name}`);
      BackgroundTasks.of(context).addTask({ runOn: 'failure' }, record, `failed ${name}`);
      expect(tasks.tasks).toHaveLength(2);
      if (name === 'nobody') throw new Error('not found');
      return name;
    }
  }

  @Module({ imports: [BackgroundTasksModule, graphqlModule], providers: [FindingResolver] })
  class FindingModule {}

  it.each([
    ['success', 'ann', 'found ann'],
    ['failure', 'nobody', 'failed nobody'],
  ])('is the list of the request, whose outcome is a %s', async (_outcome, name, ran) => {
    const { http, runner } = await createApp(platform, FindingModule);
    await http.post('/graphql').send({ query: `{ find(name: "${name}") }` });
    await runner.onIdle();
    expect(events).toEqual([ran]);
  });
});
