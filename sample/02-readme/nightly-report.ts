import { Injectable } from '@nestjs/common';
import { Cron, CronExpression } from '@nestjs/schedule';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import { Mailer } from './adding-tasks.js';

@Injectable()
export class NightlyReport {
  readonly saved: string[] = [];

  constructor(
    private readonly runner: BackgroundTasksRunner,
    private readonly mailer: Mailer,
  ) {}

  @Cron(CronExpression.EVERY_DAY_AT_MIDNIGHT)
  write(): Promise<void> {
    return this.runner.within(async (tasks) => {
      tasks.addTask((to) => this.mailer.send(to, `report ${this.saved.length}`), 'boss@example.com');
      await this.save();
    });
  }

  private async save(): Promise<void> {
    this.saved.push('today');
  }
}
