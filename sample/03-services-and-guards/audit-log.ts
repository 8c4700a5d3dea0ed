import { Injectable } from '@nestjs/common';

/** Stands in for a table, or a log service. */
@Injectable()
export class AuditLog {
  readonly entries: string[] = [];

  async write(entry: string): Promise<void> {
    this.entries.push(entry);
  }
}
