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

  /** The client need not wait for this line, and it is written for failed requests, too. */
  seen(user: string): void {
    this.tasks.addTask({ name: 'visit', runOn: 'always' }, () => this.transactions.tx.upsert(Visit, { user }, ['user']));
  }
}
