// Guide: docs/transactions.md, work that is tried again adds its tasks once, on Postgres.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Injectable, Module, Param, Post, Scope, UseInterceptors } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { DataSource, type EntityManager } from 'typeorm';
import { TryAgainInterceptor } from '../../sample/15-transactions/try-again.interceptor.js';
import { Mail, Orders, Stock, lostToAnother } from '../../sample/15-transactions/tried-again.js';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { type Server, startPostgres } from '../support/servers.js';

let postgres: Server;
let dataSource: DataSource;

beforeAll(async () => {
  postgres = await startPostgres();
  dataSource = await new DataSource({ type: 'postgres', url: postgres.url }).initialize();
  await dataSource.query('CREATE TABLE stock (article text PRIMARY KEY, pieces int NOT NULL)');
}, 60_000);

afterAll(async () => {
  await dataSource.destroy();
  await postgres.remove();
});

beforeEach(() => dataSource.query(`DELETE FROM stock; INSERT INTO stock VALUES ('tea', 10)`));

const piecesLeft = async () => (await dataSource.query<{ pieces: number }[]>('SELECT pieces FROM stock'))[0]!.pieces;

/** The first two transactions look at the stock at the same moment: one of them fails with 40001. */
class RacingStock extends Stock {
  looks = 0;
  readonly bothLooked: Gate = gate();

  override async left(manager: EntityManager, article: string): Promise<number> {
    const pieces = await super.left(manager, article);
    if (++this.looks >= 2) this.bothLooked.open();
    await this.bothLooked.opened;
    return pieces;
  }
}

describe.each(platforms)('a loop around a transaction on %s', (platform) => {
  /** Adds to the list that was injected, which follows the attempt under `Scope.DEFAULT`. */
  @Injectable()
  class InjectingOrders {
    constructor(
      private readonly runner: BackgroundTasksRunner,
      private readonly tasks: BackgroundTasks,
      private readonly stock: Stock,
      private readonly mail: Mail,
    ) {}

    async place(order: string): Promise<void> {
      for (;;) {
        try {
          return await this.runner.within(() =>
            dataSource.transaction('SERIALIZABLE', async (manager) => {
              this.tasks.addTask({ name: 'mail' }, (id) => this.mail.send(id), order);
              await this.stock.set(manager, 'tea', (await this.stock.left(manager, 'tea')) - 1);
            }),
          );
        } catch (error) {
          if (!lostToAnother(error)) throw error;
        }
      }
    }
  }

  @Controller('orders')
  class OrdersController {
    constructor(private readonly orders: Orders) {}

    @Post(':order')
    async place(@Param('order') order: string): Promise<void> {
      await this.orders.place(order, 'tea');
    }
  }

  @Controller('injected/orders')
  class InjectingController {
    constructor(private readonly orders: InjectingOrders) {}

    @Post(':order')
    async place(@Param('order') order: string): Promise<void> {
      await this.orders.place(order);
    }
  }

  const providers = [Orders, Mail, { provide: DataSource, useFactory: () => dataSource }, { provide: Stock, useClass: RacingStock }];

  @Module({ imports: [BackgroundTasksModule], controllers: [OrdersController], providers })
  class OrdersModule {}

  @Module({
    imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
    controllers: [OrdersController, InjectingController],
    providers: [...providers, InjectingOrders],
  })
  class SingletonsModule {}

  it.each([
    ['the list of within()', OrdersModule, ''],
    ['the list of within() under Scope.DEFAULT', SingletonsModule, ''],
    ['an injected list under Scope.DEFAULT', SingletonsModule, '/injected'],
  ])('sends one mail for each order: %s', async (_, module, prefix) => {
    const { app, http, runner } = await createApp(platform, module);
    await Promise.all(['a', 'b'].map((order) => http.post(`${prefix}/orders/${order}`).expect(201)));
    await runner.onIdle();
    expect(app.get(Mail).sent.toSorted()).toEqual(['a', 'b']);
    expect(runner.discardedCount).toBe(1);
    expect(await piecesLeft()).toBe(8);
  });
});

describe.each(platforms)('an interceptor that tries the handler again on %s', (platform) => {
  let runs: number;

  @Controller('orders')
  @UseInterceptors(TryAgainInterceptor)
  class OrdersController {
    constructor(private readonly stock: Stock) {}

    @Post(':order')
    async place(): Promise<void> {
      runs += 1;
      await dataSource.transaction('SERIALIZABLE', async (manager) => {
        await this.stock.set(manager, 'tea', (await this.stock.left(manager, 'tea')) - 1);
      });
    }
  }

  @Module({
    imports: [BackgroundTasksModule],
    controllers: [OrdersController],
    providers: [{ provide: Stock, useClass: RacingStock }],
  })
  class OrdersModule {}

  it('answers when the handler has succeeded', async () => {
    runs = 0;
    const { http } = await createApp(platform, OrdersModule);
    await Promise.all(['a', 'b'].map((order) => http.post(`/orders/${order}`).expect(201)));
    expect(runs).toBe(3);
    expect(await piecesLeft()).toBe(8);
  });
});
