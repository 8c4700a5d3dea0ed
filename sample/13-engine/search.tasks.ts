import { Injectable, Logger } from '@nestjs/common';
import { BackgroundTask } from 'nestjs-background-tasks';

/** Milliseconds without a change, after which a document is indexed. */
const QUIET = 1_000;

@Injectable()
export class SearchTasks {
  private readonly logger = new Logger(SearchTasks.name);

  @BackgroundTask('index-document', {
    delay: QUIET,
    deduplication: { id: (id: string) => id, ttl: QUIET, extend: true, replace: true },
  })
  indexDocument(id: string, text: string): void {
    this.logger.log(`Indexed ${id}: ${text}`);
  }
}
