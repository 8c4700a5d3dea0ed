import { Injectable } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { TenantStore } from './tenant-store.js';

/** Belongs to one request, like the list of tasks, and uses the store of the tenant. It must not be durable itself. */
@Injectable()
export class InvoicesService {
  constructor(
    private readonly tasks: BackgroundTasks,
    private readonly store: TenantStore,
  ) {}

  bill(number: string): void {
    this.tasks.addTask({ name: 'save invoice' }, () => this.store.save(`${number} of ${this.store.owner.tenant}`));
  }
}
