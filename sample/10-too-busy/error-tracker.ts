import { Injectable } from '@nestjs/common';

/** Stands in for a service that collects errors. */
@Injectable()
export class ErrorTracker {
  readonly reports: string[] = [];

  async report(error: unknown, { task }: { task: string }): Promise<void> {
    this.reports.push(`${task}: ${String(error)}`);
  }
}
