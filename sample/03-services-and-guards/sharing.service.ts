import { Injectable, NotFoundException } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Mailer } from './mailer.js';

@Injectable()
export class SharingService {
  constructor(
    private readonly tasks: BackgroundTasks,
    private readonly mailer: Mailer,
  ) {}

  share(document: string, people: string[]): void {
    for (const person of people) {
      this.tasks.addTask({ name: 'invite' }, () => this.mailer.send(person, `"${document}" was shared with you`));
    }
    // If the document does not exist, nobody is invited: the request fails, and its tasks are discarded.
    if (document === 'missing') throw new NotFoundException();
  }
}
