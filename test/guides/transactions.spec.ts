// Guide: docs/transactions.md, how tasks and transactions meet, on Postgres.
import { MikroORM } from '@mikro-orm/core';
import { RequestContext, MikroORM as PostgresORM, defineEntity, p } from '@mikro-orm/postgresql';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Global, Inject, Injectable, Module, Param, Post, Scope, type Type } from '@nestjs/common';
import { Pool } from 'pg';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksModule,
  type BackgroundTasksRootOptions,
  BackgroundTasksRunner,
} from 'nestjs-background-tasks';
import { DataSource, EntityManager, EntitySchema, type Repository } from 'typeorm';
import { StorageDriver, Transactional, addTransactionalDataSource, initializeTransactionalContext } from 'typeorm-transactional';
import { TransactionsModule as WithMikroOrm } from '../../sample/15-transactions/mikro-orm.js';
import { TransactionsModule as WithTypeorm } from '../../sample/15-transactions/typeorm-transactional.js';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { type Server, startPostgres } from '../support/servers.js';

let postgres: Server;
/** Connections of nobody's transaction. */
let outside: Pool;
let log: string[];

beforeAll(async () => {
  postgres = await startPostgres();
  outside = new Pool({ connectionString: postgres.url });
  await outside.query('CREATE TABLE orders (id text PRIMARY KEY)');
}, 60_000);

afterAll(async () => {
  await outside.end();
  await postgres.remove();
});

beforeEach(async () => {
  log = [];
  await outside.query('DELETE FROM orders');
});

/** The committed rows. */
async function committed(): Promise<string[]> {
  const { rows } = await outside.query<{ id: string }>('SELECT id FROM orders ORDER BY id');
  return rows.map(({ id }) => id);
}

/** A task that says what it sees of the database. */
async function confirm(id: string): Promise<void> {
  log.push(`${id}: ${(await committed()).join()}`);
}

describe('TypeORM, with typeorm-transactional', () => {
  const Order = new EntitySchema<{ id: string }>({ name: 'order', tableName: 'orders', columns: { id: { type: 'text', primary: true } } });
  let dataSource: DataSource;

  beforeAll(async () => {
    initializeTransactionalContext({ storageDriver: StorageDriver.ASYNC_LOCAL_STORAGE });
    dataSource = addTransactionalDataSource(new DataSource({ type: 'postgres', url: postgres.url, entities: [Order] }));
    await dataSource.initialize();
  });

  afterAll(() => dataSource.destroy());

  /** Holds a transaction open until a task has run, or thinks that it has. */
  let taskRan = gate();

  @Injectable()
  class Orders {
    readonly repository: Repository<{ id: string }> = dataSource.getRepository(Order);

    @Transactional()
    async insert(id: string): Promise<void> {
      await this.repository.insert({ id });
    }

    @Transactional()
    async place(id: string, tasks: BackgroundTasks, end?: 'fails'): Promise<void> {
      await this.insert(id);
      await this.announce(id, tasks);
      if (end === 'fails') throw new Error('the payment fails');
    }

    /** Joins the transaction that it is called in. */
    @Transactional()
    async announce(id: string, tasks: BackgroundTasks): Promise<void> {
      tasks.addTask(confirm, id);
    }

    @Transactional()
    async write(id: string, tasks: BackgroundTasks): Promise<void> {
      await this.insert(id);
      await this.writeLater(id, tasks);
    }

    @Transactional()
    async writeLater(id: string, tasks: BackgroundTasks): Promise<void> {
      tasks.addTask(async () => {
        await this.repository.insert({ id: `${id}, by the task` });
      });
    }

    /** A job, whose task writes, too. */
    @Transactional()
    async close(id: string, tasks: BackgroundTasks): Promise<void> {
      await this.insert(id);
      tasks.addTask(async () => {
        await this.repository.insert({ id: `${id}, by the task` });
        taskRan.open();
      });
      if (id === 'waits') await taskRan.opened;
      throw new Error('the job fails');
    }
  }

  @Injectable()
  class MailTasks {
    @BackgroundTask('mail')
    mail(_id: string): void {}
  }

  @Controller('orders')
  class OrdersController {
    constructor(@Inject(Orders) private readonly orders: Orders) {}

    @Post('placed/:id')
    async placed(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      await this.orders.place(id, tasks);
      // The transaction is over, the request is not.
      log.push(`handler: ${(await committed()).join()}`);
    }

    @Post('fails/:id')
    async fails(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      await this.orders.place(id, tasks, 'fails');
    }

    @Post('caught/:id')
    async caught(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      await this.orders.place(id, tasks, 'fails').catch(() => undefined);
    }

    @Post('inside/:id')
    async inside(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      await this.orders.place(id, tasks);
    }

    @Post('afterwards/:id')
    async afterwards(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      await this.orders.insert(id);
      tasks.addTask(confirm, id);
    }

    @Post('engine/:id')
    async engine(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      await this.orders.insert(id);
      tasks.addTask(MailTasks.prototype.mail, id);
    }

    @Post('idempotent/:id')
    async idempotent(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      await this.orders.repository.createQueryBuilder().insert().values({ id }).orIgnore().execute();
      tasks.addTask(MailTasks.prototype.mail, id);
    }

    @Post('writes/:id')
    async writes(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      await this.orders.write(id, tasks);
    }

    @Post('manager/:id')
    async manager(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      await dataSource.transaction(async (manager) => {
        await manager.insert(Order, { id });
        tasks.addTask((own: EntityManager) => own.insert(Order, { id: `${id}, by the task` }), manager);
      });
    }
  }

  function moduleWith(options: BackgroundTasksRootOptions | Type): Type {
    @Module({
      imports: [typeof options === 'function' ? options : BackgroundTasksModule.forRoot(options)],
      controllers: [OrdersController],
      providers: [Orders, MailTasks],
    })
    class OrdersModule {}
    return OrdersModule;
  }

  describe.each(platforms)('on %s', (platform) => {
    it('a task starts after the outermost commit, wherever it was added', async () => {
      const { http, runner } = await createApp(platform, moduleWith({}));
      await http.post('/orders/placed/1').expect(201);
      await runner.onIdle();
      expect(log).toEqual(['handler: 1', '1: 1']);
    });

    it('a task is discarded if its transaction rolls back with an exception', async () => {
      const { http, runner } = await createApp(platform, moduleWith({}));
      await http.post('/orders/fails/1').expect(500);
      await runner.onIdle();
      expect([log, await committed(), runner.discardedCount]).toEqual([[], [], 1]);
    });

    it('after a rollback that the handler catches, the task runs, and the row is not there', async () => {
      const { http, runner } = await createApp(platform, moduleWith({}));
      await http.post('/orders/caught/1').expect(201);
      await runner.onIdle();
      expect(log).toEqual(['1: ']);
    });

    it('a task that is refused inside of the transaction rolls it back, and a retry finds nothing in its way', async () => {
      const held = gate();
      const { http, runner } = await createApp(platform, moduleWith({ maxPending: 1, concurrency: 1 }));
      await fill(runner, held);
      await http.post('/orders/inside/1').expect(503);
      expect(await committed()).toEqual([]);
      held.open();
      await runner.onIdle();
      await http.post('/orders/inside/1').expect(201);
      await runner.onIdle();
      expect(log).toEqual(['1: 1']);
    });

    it('a task that is refused after the commit answers 503, and a retry finds the row', async () => {
      const held = gate();
      const { http, runner } = await createApp(platform, moduleWith({ maxPending: 1, concurrency: 1 }));
      await fill(runner, held);
      await http.post('/orders/afterwards/1').expect(503);
      expect(await committed()).toEqual(['1']);
      held.open();
      await runner.onIdle();
      await http.post('/orders/afterwards/1').expect(500);
    });

    it('an engine that is away answers 503 after the commit; a retry meets the row, unless the handler is idempotent', async () => {
      let isAway = true;
      const handedOver: string[] = [];
      const engine = {
        enqueue: async (entries: readonly { args: string }[]) => {
          if (isAway) throw new Error('away');
          handedOver.push(...entries.map(({ args }) => args));
        },
        work: () => undefined,
        close: async () => undefined,
      };
      const { http } = await createApp(platform, moduleWith({ engine, flushTimeout: 30 }));
      await http.post('/orders/engine/1').expect(503);
      await http.post('/orders/idempotent/2').expect(503);
      expect(await committed()).toEqual(['1', '2']);
      isAway = false;
      await http.post('/orders/engine/1').expect(500);
      await http.post('/orders/idempotent/2').expect(201);
      expect(handedOver).toEqual(['["2"]']);
    });

    it.each([
      ['without around', {}],
      ['with it', WithTypeorm],
    ])('a task that was added in a method which joined a transaction writes on its own, %s', async (_, options) => {
      const { http, runner, logs } = await createApp(platform, moduleWith(options));
      await http.post('/orders/writes/1').expect(201);
      await runner.onIdle();
      expect([await committed(), logs.of('error')]).toEqual([['1', '1, by the task'], []]);
    });

    it('an engine refuses an EntityManager among the arguments', async () => {
      const engine = { enqueue: async () => undefined, work: () => undefined, close: async () => undefined };
      const { runner } = await createApp(platform, moduleWith({ engine }));
      const manager = dataSource.manager as unknown as string;
      await expect(runner.within((tasks) => tasks.addTask(MailTasks.prototype.mail, manager))).rejects.toMatchObject({
        code: 'BACKGROUND_TASK_INVALID_TASK',
      });
    });

    it("a transaction's own EntityManager, in the arguments of a task, is of no use to it", async () => {
      const errors: string[] = [];
      const { http, runner } = await createApp(platform, moduleWith({ onError: (error) => errors.push((error as Error).name) }));
      await http.post('/orders/manager/1').expect(201);
      await runner.onIdle();
      expect(errors).toEqual(['QueryRunnerAlreadyReleasedError']);
    });
  });

  describe('outside any request, under Scope.DEFAULT', () => {
    const { DEFAULT: scope } = Scope;

    beforeEach(() => {
      taskRan = gate();
    });

    async function start(options: BackgroundTasksRootOptions) {
      const { app, runner } = await createApp('Express', moduleWith({ scope, ...options }));
      return { runner, orders: app.get(Orders), tasks: app.get<BackgroundTasks>(BackgroundTasks) };
    }

    it('a task starts at once, inside of the transaction that is open: its write goes with it', async () => {
      const { runner, orders, tasks } = await start({});
      await expect(orders.close('waits', tasks)).rejects.toThrow('the job fails');
      await runner.onIdle();
      expect(await committed()).toEqual([]);
    });

    it('a task in within() starts when everything is committed, and is discarded if that fails', async () => {
      const { runner, orders, tasks } = await start({});
      await runner.within(() => orders.place('1', tasks));
      await runner.onIdle();
      expect(log).toEqual(['1: 1']);
      await expect(runner.within(() => orders.close('2', tasks))).rejects.toThrow('the job fails');
      await runner.onIdle();
      expect([await committed(), runner.discardedCount]).toEqual([['1'], 1]);
    });

    it('a task that starts at once has its own connections with the option around', async () => {
      const { app, runner } = await createApp('Express', moduleWith(WithTypeorm));
      const orders = app.get(Orders);
      const late = await lateList(runner);
      await expect(orders.close('waits', late)).rejects.toThrow('the job fails');
      await runner.onIdle();
      expect(await committed()).toEqual(['waits, by the task']);
    });
  });
});

/** The list of a unit of work that is over: what is added to it starts at once. */
async function lateList(runner: BackgroundTasksRunner): Promise<BackgroundTasks> {
  return runner.within((tasks) => tasks);
}

/** Has one task run and one wait, until the gate opens. */
async function fill(runner: BackgroundTasksRunner, { opened }: Gate): Promise<void> {
  const started = gate();
  await runner.within((tasks) => {
    tasks.addTask(() => {
      started.open();
      return opened;
    });
  });
  await started.opened;
  await runner.within((tasks) => tasks.addTask(() => undefined));
}

describe('MikroORM', () => {
  const Order = defineEntity({ name: 'Order', tableName: 'orders', properties: { id: p.string().primary() } });
  let orm: MikroORM;

  beforeAll(async () => {
    orm = await PostgresORM.init({ clientUrl: postgres.url, entities: [Order] });
  });

  afterAll(() => orm.close());

  @Controller('orders')
  class OrdersController {
    constructor(@Inject(MikroORM) private readonly orm: MikroORM) {}

    @Post(':id')
    place(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
      const { em } = this.orm;
      // As its middleware does.
      return RequestContext.create(em, () =>
        em.transactional(async () => {
          em.create(Order, { id });
          tasks.addTask({ name: 'write' }, async () => {
            em.create(Order, { id: `${id}, by the task` });
            await em.flush();
          });
        }),
      );
    }
  }

  @Global()
  @Module({ providers: [{ provide: MikroORM, useFactory: () => orm }], exports: [MikroORM] })
  class OrmModule {}

  async function writtenWith(tasksModule: Type): Promise<{ rows: string[]; errors: string[] }> {
    @Module({ imports: [OrmModule, tasksModule], controllers: [OrdersController] })
    class OrdersModule {}
    const { http, runner, logs } = await createApp('Express', OrdersModule);
    await http.post('/orders/1').expect(201);
    await runner.onIdle();
    return { rows: await committed(), errors: logs.of('error') };
  }

  it('a task inherits the transaction that it was added in, and fails in it', async () => {
    expect(await writtenWith(BackgroundTasksModule)).toEqual({
      rows: ['1'],
      errors: ['Background task "write" failed: Transaction is already committed'],
    });
  });

  it('a task has its own EntityManager with the option around', async () => {
    expect(await writtenWith(WithMikroOrm)).toEqual({ rows: ['1', '1, by the task'], errors: [] });
  });
});
