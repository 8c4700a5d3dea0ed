import { Injectable } from '@nestjs/common';
import { BackgroundTask, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { fromTypeOrm } from 'nestjs-background-tasks/outbox';
import { DataSource, EntitySchema } from 'typeorm';

export const Mail = new EntitySchema<{ order: string }>({
  name: 'mail',
  tableName: 'mails',
  columns: { order: { type: 'text', primary: true } },
});

@Injectable()
export class MailTasks {
  constructor(
    private readonly runner: BackgroundTasksRunner,
    private readonly db: DataSource,
  ) {}

  @BackgroundTask('order-mail', { attempts: 3, backoff: 1_000, once: true })
  async send(order: string): Promise<void> {
    await this.runner.transaction((join) =>
      this.db.transaction((manager) => join(fromTypeOrm(manager), () => manager.insert(Mail, { order }))),
    );
  }
}
