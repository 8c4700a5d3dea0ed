import { Injectable } from '@nestjs/common';
import { type BackgroundTasks, currentTask } from 'nestjs-background-tasks';
import { type Observable, ReplaySubject } from 'rxjs';
import { ContactStore } from './contact-store.js';

export interface Progress {
  readonly done: number;
  readonly total: number;
  /** `running`, or how its task ended. */
  readonly state: string;
}

/** The imports of this process and how far they are. Several processes would keep this in their database. */
@Injectable()
export class Imports {
  readonly #imports = new Map<string, ReplaySubject<Progress>>();

  constructor(private readonly contacts: ContactStore) {}

  /** Adds the task of an import, and returns its id. */
  start(contacts: readonly string[], tasks: BackgroundTasks): string {
    const progress = new ReplaySubject<Progress>(1);
    const total = contacts.length;
    let done = 0;
    progress.next({ done, total, state: 'running' });
    const task = tasks.addTask({ name: 'import contacts' }, async () => {
      const { signal } = currentTask()!;
      for (const contact of contacts) {
        signal.throwIfAborted();
        await this.contacts.save(contact);
        progress.next({ done: ++done, total, state: 'running' });
      }
    });
    // However it ends: it may be cancelled before it has begun.
    void task.ended.then((state) => {
      progress.next({ done, total, state });
      progress.complete();
    });
    this.#imports.set(task.id, progress);
    return task.id;
  }

  /** Starts with where the import is now, also when it has ended, and completes with it. */
  progress(id: string): Observable<Progress> | undefined {
    return this.#imports.get(id);
  }
}
