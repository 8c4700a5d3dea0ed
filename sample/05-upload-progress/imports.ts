import { Injectable } from '@nestjs/common';
import { BackgroundTask, currentTask } from 'nestjs-background-tasks';
import { ContactStore } from './contact-store.js';

/** The task of an import. It runs in this process, or in a worker if the module has an engine. */
@Injectable()
export class Imports {
  constructor(private readonly contacts: ContactStore) {}

  @BackgroundTask('import contacts')
  async run(contacts: readonly string[]): Promise<void> {
    const task = currentTask()!;
    const total = contacts.length;
    await task.updateProgress({ done: 0, total });
    for (const [index, contact] of contacts.entries()) {
      task.signal.throwIfAborted();
      await this.contacts.save(contact);
      await task.updateProgress({ done: index + 1, total });
    }
  }
}
