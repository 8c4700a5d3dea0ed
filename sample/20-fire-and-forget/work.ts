import { setTimeout } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';

/** Stands in for a mail server. */
@Injectable()
export class Mail {
  readonly sent: string[] = [];

  async send(to: string, text: string): Promise<void> {
    await setTimeout(10);
    this.sent.push(`${text} to ${to}`);
  }
}

/** Stands in for a table of who did what. */
@Injectable()
export class Audit {
  readonly entries: string[] = [];

  async write(entry: string): Promise<void> {
    await setTimeout(10);
    this.entries.push(entry);
  }
}
