import { TransactionHost, Transactional } from '@nestjs-cls/transactional';
import type { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { Injectable } from '@nestjs/common';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { ClsService } from 'nestjs-cls';
import { MailTasks } from './mail.tasks.js';
import { Order } from './order.entity.js';
import type { Caller } from './caller.js';

@Injectable()
export class OrdersService {
  constructor(
    private readonly tasks: BackgroundTasks,
    private readonly transactions: TransactionHost<TransactionalAdapterTypeOrm>,
    private readonly events: EventEmitter2,
    private readonly mail: MailTasks,
    private readonly cls: ClsService<Caller>,
  ) {}

  /** The order commits together with the tasks that listeners of the event add. */
  @Transactional()
  async place(id: string): Promise<void> {
    const { tenant, user } = this.cls.get();
    await this.transactions.tx.insert(Order, { id, tenant, user });
    this.events.emit('order.placed', id);
    if (id.startsWith('unpaid')) throw new Error('The payment failed');
  }

  /** Closes the orders of all tenants. Each mail is sent on behalf of the tenant of its order. */
  @Transactional()
  async closeAll(): Promise<void> {
    const orders = await this.transactions.tx.findBy(Order, { state: 'placed' });
    for (const { id, tenant, user } of orders) {
      await this.transactions.tx.update(Order, { id }, { state: 'closed' });
      this.cls.run(() => {
        this.cls.set('tenant', tenant);
        this.cls.set('user', user);
        this.tasks.addTask(this.mail.send, id);
      });
    }
  }
}
