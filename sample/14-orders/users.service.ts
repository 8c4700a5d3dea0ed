import { TransactionHost } from '@nestjs-cls/transactional';
import type { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { Injectable } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Visit } from './visit.entity.js';

@Injectable()
export class UsersService {
  constructor(
    private readonly tasks: BackgroundTasks,
    private readonly transactions: TransactionHost<TransactionalAdapterTypeOrm>,
  ) {}

  /** Nobody has to wait for this to be written, and it is true of requests that fail, too. */
  seen(user: string): void {
    this.tasks.addTask({ name: 'visit', runOn: 'always' }, () => this.transactions.tx.upsert(Visit, { user }, ['user']));
  }
}
