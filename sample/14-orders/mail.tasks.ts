import { TransactionHost, Transactional } from '@nestjs-cls/transactional';
import type { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { Injectable, Logger } from '@nestjs/common';
import { BackgroundTask, currentTask } from 'nestjs-background-tasks';
import { ClsService } from 'nestjs-cls';
import { Order } from './order.entity.js';
import type { Caller } from './caller.js';

@Injectable()
export class MailTasks {
  private readonly logger = new Logger(MailTasks.name);

  constructor(
    private readonly transactions: TransactionHost<TransactionalAdapterTypeOrm>,
    private readonly cls: ClsService<Caller>,
  ) {}

  @BackgroundTask('order-mail', { attempts: 3, backoff: 1_000, once: true })
  @Transactional()
  async send(id: string): Promise<void> {
    const { tenant, user } = this.cls.get();
    const { state } = await this.transactions.tx.findOneByOrFail(Order, { id });
    // `currentTask()` works although another decorator wraps the method, and after an `await`.
    this.logger.log(`Mail for ${user} of ${tenant}: order ${id} is ${state}, says ${currentTask()?.name}`);
  }
}
