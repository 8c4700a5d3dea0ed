import { Injectable } from '@nestjs/common';

/** Stands in for a mail service. */
@Injectable()
export class Mailer {
  readonly sent: string[] = [];

  async send(to: string, text: string): Promise<void> {
    this.sent.push(`${to}: ${text}`);
  }
}
