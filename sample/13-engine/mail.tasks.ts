import { setTimeout } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import { BackgroundTask, currentTask } from 'nestjs-background-tasks';

@Injectable()
export class MailTasks {
  private readonly logger = new Logger(MailTasks.name);

  @BackgroundTask('welcome-mail', { attempts: 5, backoff: { type: 'exponential', delay: 1_000 } })
  async sendWelcomeMail(address: string): Promise<void> {
    const { attempt, signal } = currentTask()!;
    // The mail server takes a while. If the worker has to stop before that, it requeues the task.
    await setTimeout(100, undefined, { signal });
    this.logger.log(`Sent a mail to ${address}, at attempt ${attempt}`);
  }
}
