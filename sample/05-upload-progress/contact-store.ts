import { setTimeout } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';

/** Stands in for a slow table. */
@Injectable()
export class ContactStore {
  async save(contact: string): Promise<void> {
    await setTimeout(200);
    if (!contact.includes('@')) throw new Error('A line has no address');
  }
}
