import { setTimeout } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';

/** Stands in for the store that tasks write to. */
@Injectable()
export class Journal {
  readonly entries: string[] = [];

  async write(...words: (string | number)[]): Promise<void> {
    await setTimeout(100);
    this.entries.push(words.join(' '));
  }
}
