import { Injectable } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { fromTypeOrm } from 'nestjs-background-tasks/outbox';
import { DataSource, type EntityManager, EntitySchema } from 'typeorm';
import { MailTasks } from './mail.tasks.js';

export const Order = new EntitySchema<{ id: string }>({
  name: 'order',
  tableName: 'orders',
  columns: { id: { type: 'text', primary: true } },
});

@Injectable()
export class OrdersService {
  constructor(
    private readonly runner: BackgroundTasksRunner,
    private readonly db: DataSource,
    private readonly tasks: BackgroundTasks,
    private readonly mail: MailTasks,
  ) {}

  async place(id: string): Promise<void> {
    await this.runner.transaction((join) => this.db.transaction((manager) => join(fromTypeOrm(manager), () => this.insert(manager, id))));
  }

  private async insert(manager: EntityManager, id: string): Promise<void> {
    await manager.insert(Order, { id });
    this.tasks.addTask(this.mail.send, id);
  }
}
