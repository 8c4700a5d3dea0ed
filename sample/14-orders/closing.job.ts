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

  /** The mails are sent when all orders are closed. If closing fails, none is sent. */
  @Interval(closingInterval)
  async close(): Promise<void> {
    await this.runner.within(() => this.orders.closeAll());
  }
}
