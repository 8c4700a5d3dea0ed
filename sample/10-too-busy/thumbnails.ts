import { setTimeout } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';

/** Stands in for slow work. */
@Injectable()
export class Thumbnails {
  readonly made: string[] = [];

  async make(image: string): Promise<void> {
    await setTimeout(1_000);
    if (image === 'broken') throw new Error('This is not an image');
    this.made.push(image);
  }
}
