// Not run by jest, which cannot load nestjs-cls, a CommonJS package, beside Nest 12. Prints what a task of a joined transaction saw.
import { Controller, Injectable, Module, Param, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { TransactionHost, Transactional } from '@nestjs-cls/transactional';
import type { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { TypeOrmModule } from '@nestjs/typeorm';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { ClsService } from 'nestjs-cls';
import { EntitySchema } from 'typeorm';
import { TransactionsModule, clsModule } from '../../sample/15-transactions/nestjs-cls.js';

const [how, url] = process.argv.slice(2) as ['without around' | 'with around', string];

const Order = new EntitySchema<{ id: string }>({ name: 'order', tableName: 'orders', columns: { id: { type: 'text', primary: true } } });

const seen: string[] = [];
const tenants: unknown[] = [];

@Injectable()
class Orders {
  constructor(
    private readonly transactions: TransactionHost<TransactionalAdapterTypeOrm>,
    private readonly cls: ClsService,
  ) {}

  @Transactional()
  async place(id: string, tasks: BackgroundTasks): Promise<void> {
    await this.transactions.tx.insert(Order, { id });
    await this.announce(id, tasks);
  }

  @Transactional()
  async announce(id: string, tasks: BackgroundTasks): Promise<void> {
    tasks.addTask(() => this.look(id));
  }

  private async look(id: string): Promise<void> {
    // What the request has set is still there.
    tenants.push(this.cls.get('tenant'));
    try {
      seen.push(`${id} is ${(await this.transactions.tx.existsBy(Order, { id })) ? '' : 'not '}there`);
    } catch (error) {
      seen.push(`${id} is not there: ${(error as Error).name}`);
    }
  }
}

@Controller('orders')
class OrdersController {
  constructor(
    private readonly orders: Orders,
    private readonly cls: ClsService,
  ) {}

  @Post(':id')
  async place(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    this.cls.set('tenant', 'acme');
    await this.orders.place(id, tasks);
  }
}

@Module({
  imports: [
    TypeOrmModule.forRoot({ type: 'postgres', url, entities: [Order] }),
    ...(how === 'with around' ? [TransactionsModule] : [clsModule, BackgroundTasksModule]),
  ],
  controllers: [OrdersController],
  providers: [Orders],
})
class AppModule {}

const app = await NestFactory.create(AppModule, new ExpressAdapter(), { logger: ['error', 'warn'] });
app.enableShutdownHooks();
await app.listen(0, '127.0.0.1');
await fetch(`${await app.getUrl()}/orders/1`, { method: 'POST' });
await app.get(BackgroundTasksRunner).onIdle();
await app.close();
console.log(JSON.stringify({ seen, tenants }));
