import { Injectable } from '@nestjs/common';
import { Interval } from '@nestjs/schedule';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import { OrdersService } from './orders.service.js';
import { closingInterval } from './settings.js';

@Injectable()
export class ClosingJob {
  constructor(
    private readonly runner: BackgroundTasksRunner,
    private readonly orders: OrdersService,
  ) {}

  /** The mails go out when all orders are closed, and not at all if that fails. */
  @Interval(closingInterval)
  async close(): Promise<void> {
    await this.runner.within(() => this.orders.closeAll());
  }
}
