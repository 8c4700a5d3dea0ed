import { Injectable, Logger } from '@nestjs/common';
import { BackgroundTask } from 'nestjs-background-tasks';

/** A document is indexed when it has not changed for this long. */
const QUIET_MS = 1_000;
/** Less than that, by more than clocks differ: a text that comes as the task is due must not be ignored. */
const KEY_MS = QUIET_MS - 200;

@Injectable()
export class SearchTasks {
  private readonly logger = new Logger(SearchTasks.name);

  @BackgroundTask('index-document', {
    delay: QUIET_MS,
    deduplication: { id: (id: string) => id, ttl: KEY_MS, extend: true, replace: true },
  })
  indexDocument(id: string, text: string): void {
    this.logger.log(`Indexed ${id}: ${text}`);
  }
}
