import { readFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';

/** Stands in for a slow table. */
@Injectable()
export class Contacts {
  readonly all: string[] = [];

  /** Reads a file with one contact per line. */
  async import(path: string): Promise<void> {
    const lines = await readFile(path, 'utf8');
    await setTimeout(1_000);
    this.all.push(...lines.split('\n').filter(Boolean));
  }
}
