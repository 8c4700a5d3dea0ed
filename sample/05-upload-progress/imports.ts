import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { type Observable, ReplaySubject } from 'rxjs';
import { ContactStore } from './contact-store.js';

export interface Progress {
  readonly done: number;
  readonly total: number;
  readonly state: 'running' | 'completed' | 'failed';
}

/** The imports of this process and how far they are. Several processes would keep this in their database. */
@Injectable()
export class Imports {
  readonly #imports = new Map<string, ReplaySubject<Progress>>();

  constructor(private readonly contacts: ContactStore) {}

  create(total: number): string {
    const id = randomUUID();
    const progress = new ReplaySubject<Progress>(1);
    progress.next({ done: 0, total, state: 'running' });
    this.#imports.set(id, progress);
    return id;
  }

  /** Starts with where the import is now, also when it has ended, and completes with it. */
  progress(id: string): Observable<Progress> | undefined {
    return this.#imports.get(id);
  }

  async run(id: string, lines: readonly string[]): Promise<void> {
    const progress = this.#imports.get(id)!;
    const total = lines.length;
    let done = 0;
    try {
      for (const line of lines) {
        await this.contacts.save(line);
        progress.next({ done: ++done, total, state: 'running' });
      }
      progress.next({ done, total, state: 'completed' });
    } catch (error) {
      progress.next({ done, total, state: 'failed' });
      throw error;
    } finally {
      progress.complete();
    }
  }
}
