// Not run by jest, which cannot load nestjs-cls, a CommonJS package, beside Nest 12. Prints, for each scenario, what became of its tasks.
import { type CanActivate, Controller, Injectable, Module, Param, Post, Scope, UseGuards } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventEmitter2, EventEmitterModule, OnEvent } from '@nestjs/event-emitter';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { ClsPluginTransactional, Propagation, TransactionHost, Transactional } from '@nestjs-cls/transactional';
import { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { TypeOrmModule, getDataSourceToken } from '@nestjs/typeorm';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner, type TaskEnd } from 'nestjs-background-tasks';
import { fromTypeOrm, sqlOutbox, transactionalTasks } from 'nestjs-background-tasks/outbox';
import { inProcessEngine } from 'nestjs-background-tasks/testing';
import { ClsModule } from 'nestjs-cls';
import { DataSource, EntitySchema } from 'typeorm';

const [adapterName, scopeName, url, misuse] = process.argv.slice(2) as ['Express' | 'Fastify', 'REQUEST' | 'DEFAULT', string, 'unwrapped'?];

interface Row {
  id: string;
  parent?: string;
}
const Order = new EntitySchema<Row>({
  name: 'order',
  tableName: 'orders',
  columns: { id: { type: 'text', primary: true }, parent: { type: 'text', nullable: true } },
});

let log: string[];
let ends: [id: string, end: Promise<TaskEnd>][];

@Injectable()
class Orders {
  constructor(private readonly host: TransactionHost<TransactionalAdapterTypeOrm>) {}

  /** A task that says whether it sees its order, outside of the transaction that it was added in. */
  readonly confirm = async (id: string): Promise<void> => {
    log.push(`${id} is ${(await this.host.tx.existsBy(Order, { id })) ? '' : 'not '}there`);
  };

  insert(id: string, parent?: string): Promise<unknown> {
    return this.host.tx.insert(Order, parent === undefined ? { id } : { id, parent });
  }

  add(tasks: BackgroundTasks, id: string): BackgroundTask {
    const task = tasks.addTask({ name: id }, this.confirm, id);
    ends.push([id, task.ended]);
    return task;
  }

  @Transactional()
  async place(tasks: BackgroundTasks, id: string, then?: () => unknown): Promise<void> {
    await this.insert(id);
    this.add(tasks, id);
    await then?.();
  }

  /** Joins the transaction of its caller. */
  @Transactional()
  async placeWithin(tasks: BackgroundTasks, id: string): Promise<void> {
    await this.place(tasks, id);
  }

  @Transactional(Propagation.RequiresNew)
  async placeAnew(tasks: BackgroundTasks, id: string): Promise<void> {
    await this.insert(id);
    this.add(tasks, id);
  }

  @Transactional(Propagation.Nested)
  async placePart(tasks: BackgroundTasks, id: string, then?: () => unknown): Promise<void> {
    await this.insert(id);
    this.add(tasks, id);
    await then?.();
  }

  @Transactional(Propagation.NotSupported)
  async placeOutside(tasks: BackgroundTasks, id: string): Promise<void> {
    await this.insert(id);
    this.add(tasks, id);
  }

  @Transactional()
  async placeOfNobody(tasks: BackgroundTasks, id: string): Promise<void> {
    await this.insert(id, 'nobody');
    this.add(tasks, id);
  }
}

const fails = (): never => {
  throw new Error('the payment fails');
};
const ignore = (): undefined => undefined;

type Scenario = (orders: Orders, tasks: BackgroundTasks) => Promise<unknown>;

const scenarios: Record<string, Scenario> = {
  committed: (orders, tasks) => orders.place(tasks, 'a'),
  'committed by the caller of a method that joins': (orders, tasks) => orders.placeWithin(tasks, 'a'),
  'committed, and the request fails': async (orders, tasks) => {
    await orders.place(tasks, 'a');
    fails();
  },
  'rolled back, and caught': (orders, tasks) => orders.place(tasks, 'a', fails).catch(ignore),
  'the commit fails': (orders, tasks) => orders.placeOfNobody(tasks, 'a').catch(ignore),
  'aborted by a statement that fails, which is caught': (orders, tasks) => orders.place(tasks, 'a', () => orders.insert('a').catch(ignore)),
  'a savepoint that is kept, and one that is rolled back': (orders, tasks) =>
    orders.place(tasks, 'a', async () => {
      await orders.placePart(tasks, 'b');
      await orders.placePart(tasks, 'c', fails).catch(ignore);
    }),
  'a savepoint that cannot be released': (orders, tasks) =>
    orders.place(tasks, 'a', () => orders.placePart(tasks, 'b', () => orders.insert('b').catch(ignore)).catch(ignore)),
  'a savepoint that is kept, in a transaction that is rolled back': (orders, tasks) =>
    orders
      .place(tasks, 'a', async () => {
        await orders.placePart(tasks, 'b');
        fails();
      })
      .catch(ignore),
  'REQUIRES_NEW, in a transaction that is rolled back': (orders, tasks) =>
    orders
      .place(tasks, 'a', async () => {
        await orders.placeAnew(tasks, 'b');
        fails();
      })
      .catch(ignore),
  'withoutTransaction, in a transaction that is rolled back': (orders, tasks) =>
    orders
      .place(tasks, 'a', async () => {
        await orders.placeOutside(tasks, 'b');
        fails();
      })
      .catch(ignore),
  'cancelled before the commit': (orders, tasks) => orders.place(tasks, 'a', () => orders.add(tasks, 'b').cancel()),
  "runOn: 'always', in a transaction that is rolled back": (orders, tasks) =>
    orders
      .place(tasks, 'a', () => {
        tasks.addTask({ runOn: 'always' }, () => log.push('always ran'));
        fails();
      })
      .catch(ignore),
  'two transactions side by side, of which one is rolled back': (orders, tasks) =>
    Promise.allSettled([orders.place(tasks, 'a'), orders.place(tasks, 'b', fails)]),
};

@Injectable()
class Listener {
  constructor(
    private readonly orders: Orders,
    private readonly tasks: BackgroundTasks,
  ) {}

  @OnEvent('placed')
  placed(id: string): void {
    this.orders.add(this.tasks, id);
  }
}

/** Adds a task in a transaction of its own, before the handler. */
@Injectable()
class Guard implements CanActivate {
  constructor(
    private readonly orders: Orders,
    private readonly tasks: BackgroundTasks,
  ) {}

  async canActivate(): Promise<boolean> {
    await this.orders.place(this.tasks, 'a', fails).catch(ignore);
    await this.orders.place(this.tasks, 'b');
    return true;
  }
}

@Injectable()
class Service {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Controller()
class OrdersController {
  constructor(
    private readonly orders: Orders,
    private readonly service: Service,
    private readonly events: EventEmitter2,
  ) {}

  @Post('parameter/:scenario')
  async parameter(@Param('scenario') scenario: string, @BackgroundTasks() tasks: BackgroundTasks) {
    await scenarios[scenario]?.(this.orders, tasks);
  }

  @Post('injected/:scenario')
  async injected(@Param('scenario') scenario: string) {
    await scenarios[scenario]?.(this.orders, this.service.tasks);
  }

  @Post('guard')
  @UseGuards(Guard)
  guard() {}

  @Post('listener')
  async listener() {
    await this.orders.place(this.service.tasks, 'a', () => this.events.emit('placed', 'b'));
    await this.orders
      .place(this.service.tasks, 'c', () => {
        this.events.emit('placed', 'd');
        fails();
      })
      .catch(ignore);
  }
}

const adapter = new TransactionalAdapterTypeOrm({ dataSourceToken: getDataSourceToken() });

@Module({
  imports: [
    TypeOrmModule.forRoot({ type: 'postgres', url, entities: [Order] }),
    ClsModule.forRoot({
      global: true,
      middleware: { mount: true },
      plugins: [
        new ClsPluginTransactional({
          imports: [TypeOrmModule],
          adapter: misuse ? adapter : transactionalTasks(adapter, fromTypeOrm),
        }),
      ],
    }),
    EventEmitterModule.forRoot(),
    BackgroundTasksModule.forRootAsync({
      scope: Scope[scopeName],
      inject: [DataSource],
      useFactory: (db: DataSource) => (misuse ? { engine: inProcessEngine(), outbox: sqlOutbox(fromTypeOrm(db), { migrate: true }) } : {}),
    }),
  ],
  controllers: [OrdersController],
  providers: [Orders, Service, Guard, ...(scopeName === 'DEFAULT' ? [Listener] : [])],
})
class AppModule {}

const warnings: string[] = [];
const logger = { log: () => {}, error: () => {}, warn: (line: string) => warnings.push(line) };
const app = await NestFactory.create(AppModule, adapterName === 'Express' ? new ExpressAdapter() : new FastifyAdapter(), { logger });
app.enableShutdownHooks();
await app.listen(0, '127.0.0.1');
const base = await app.getUrl();
const dataSource = app.get(DataSource);

async function outcomeOf(path: string): Promise<{ log: string[]; ends: string[] }> {
  await dataSource.query('DELETE FROM orders');
  log = [];
  ends = [];
  await fetch(`${base}/${path}`, { method: 'POST' });
  await app.get(BackgroundTasksRunner).onIdle();
  return { log: log.sort(), ends: (await Promise.all(ends.map(async ([id, end]) => `${id} ${await end}`))).sort() };
}

const paths = [
  ...Object.keys(scenarios).flatMap((name) => ['parameter', 'injected'].map((list) => `${list}/${name}`)),
  'guard',
  ...(scopeName === 'DEFAULT' ? ['listener'] : []),
];
const outcomes: Record<string, unknown> = {};
for (const path of misuse ? [] : paths) outcomes[path] = await outcomeOf(path.split('/').map(encodeURIComponent).join('/'));
await app.close();
console.log(JSON.stringify({ outcomes, warnings }));
