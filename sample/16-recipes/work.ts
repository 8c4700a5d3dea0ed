import { setTimeout } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';

/** Stands in for slow work: a report, an export, a request to another server. */
@Injectable()
export class Work {
  async do(_what: string, signal?: AbortSignal): Promise<void> {
    await setTimeout(1_000, undefined, { signal });
  }
}
