// Guarantee 2: each request has its own list beside durable providers, which are refused one or warned of.
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, Param, Scope } from '@nestjs/common';
import { type ContextId, ContextIdFactory, type ContextIdResolver, type ContextIdStrategy, type HostComponentInfo } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

interface TenantRequest {
  readonly headers: Record<string, string | undefined>;
}

/** One durable tree per tenant, with what Nest is to inject into it as REQUEST. */
class TenantStrategy implements ContextIdStrategy<TenantRequest> {
  readonly #tenants = new Map<string, ContextId>();

  constructor(private readonly payloadOf?: (request: TenantRequest, tenant: string) => unknown) {}

  attach(contextId: ContextId, request: TenantRequest): ContextIdResolver | ContextIdResolver['resolve'] {
    const tenant = request.headers['x-tenant']!;
    const known = this.#tenants.get(tenant) ?? ContextIdFactory.create();
    this.#tenants.set(tenant, known);
    const resolve = ({ isTreeDurable }: HostComponentInfo) => (isTreeDurable ? known : contextId);
    return this.payloadOf ? { resolve, payload: this.payloadOf(request, tenant) } : resolve;
  }
}

let ran: string[];

beforeEach(() => {
  ran = [];
});

afterEach(() => {
  // Nest has no public way back.
  Object.assign(ContextIdFactory, { strategy: undefined });
});

describe.each(platforms)('durable providers on %s', (platform) => {
  let connections: number;

  /** Made once per tenant. */
  @Injectable({ scope: Scope.REQUEST, durable: true })
  class Connection {
    readonly number = ++connections;
  }

  @Injectable()
  class PerRequest {
    constructor(
      private readonly tasks: BackgroundTasks,
      readonly connection: Connection,
    ) {}
    add(name: string) {
      this.tasks.addTask(() => ran.push(`${name} over connection ${this.connection.number}`));
      return this.tasks.tasks.length;
    }
  }

  /** Must not hold the list of a request, and does. */
  @Injectable({ scope: Scope.REQUEST, durable: true })
  class Durable {
    constructor(private readonly tasks: BackgroundTasks) {}
    add(name: string) {
      this.tasks.addTask({ name: `durable ${name}` }, () => ran.push(`durable ${name}`));
    }
  }

  @Controller()
  class TenantController {
    constructor(private readonly perRequest: PerRequest) {}
    @Get('request/:name')
    add(@Param('name') name: string) {
      return this.perRequest.add(name);
    }
  }

  @Controller()
  class DurableController {
    constructor(private readonly durable: Durable) {}
    @Get('durable/:name')
    add(@Param('name') name: string) {
      try {
        this.durable.add(name);
        return 'added';
      } catch (error) {
        return (error as Error).message;
      }
    }
  }

  @Module({
    imports: [BackgroundTasksModule],
    controllers: [TenantController, DurableController],
    providers: [Connection, PerRequest, Durable],
  })
  class TenantModule {}

  beforeEach(() => {
    connections = 0;
  });

  it('the list stays per request beside providers that are durable', async () => {
    ContextIdFactory.apply(new TenantStrategy((_, tenant) => ({ tenant })));
    const { http, runner, logs } = await createApp(platform, TenantModule);
    for (const [tenant, name] of [
      ['acme', 'a'],
      ['globex', 'b'],
      ['acme', 'c'],
    ] as const) {
      await http.get(`/request/${name}`).set('x-tenant', tenant).expect(200, '1');
    }
    await runner.onIdle();
    expect(ran).toEqual(['a over connection 1', 'b over connection 2', 'c over connection 1']);
    expect(logs.lines).toEqual([]);
  });

  it('a durable provider whose REQUEST is its tenant is refused at the first task', async () => {
    ContextIdFactory.apply(new TenantStrategy((_, tenant) => ({ tenant })));
    const { http, runner } = await createApp(platform, TenantModule);
    const { text } = await http.get('/durable/a').set('x-tenant', 'acme').expect(200);
    expect(text).toMatch(/^Background task "durable a" was refused: .* got an object of type "Object"/);
    expect(runner.pendingCount).toBe(0);
  });

  it('a durable provider whose REQUEST is the first request of its tenant is warned of', async () => {
    ContextIdFactory.apply(new TenantStrategy((request) => request));
    const { http, runner, logs } = await createApp(platform, TenantModule);
    for (const name of ['a', 'b']) {
      await http.get(`/durable/${name}`).set('x-tenant', 'acme').expect(200, 'added');
      await runner.onIdle();
    }
    expect(ran).toEqual(['durable a', 'durable b']);
    expect(logs.of('warn')).toEqual([expect.stringMatching(/"durable b" was added after its request was over.*durable provider/)]);
  });

  it('a durable provider without a REQUEST, for want of a payload, adds tasks outside any request', async () => {
    ContextIdFactory.apply(new TenantStrategy());
    const { http, runner, logs } = await createApp(platform, TenantModule);
    for (const name of ['a', 'b']) {
      await http.get(`/durable/${name}`).set('x-tenant', 'acme').expect(200, 'added');
      await runner.onIdle();
    }
    expect(ran).toEqual(['durable a', 'durable b']);
    expect(logs.lines.map(({ level, message }) => `${level}: ${message}`)).toEqual(
      ['a', 'b'].map((name) =>
        expect.stringContaining(`debug: Background task "durable ${name}" was added to a list that belongs to no request`),
      ),
    );
  });
});
