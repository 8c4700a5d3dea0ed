import type { BulkJobOptions, Job } from 'bullmq';
import type { EngineEntry, EngineJob } from '../engine/engine.js';

/** What a job of the queue holds. The arguments stay text: Postgres' own JSON knows neither every text nor every number. */
export type JobData = Pick<EngineJob, 'provider' | 'args' | 'timeout' | 'trace'>;

/** A finished job stays known for a while, as an entry that is handed over again must not be a new job. Seconds, and jobs. */
const KEEP_COMPLETED = { age: 3_600, count: 1_000 };
/** A week, for somebody to look at it. */
const KEEP_FAILED = { age: 7 * 24 * 3_600 };

export function jobOf({ id, name, provider, args, timeout, trace, options }: EngineEntry): {
  name: string;
  data: JobData;
  opts: BulkJobOptions;
} {
  return {
    name,
    data: { provider, args, timeout, trace },
    // An entry has no options that are undefined, which BullMQ's types rule out.
    opts: { ...(options as BulkJobOptions), jobId: id, removeOnComplete: KEEP_COMPLETED, removeOnFail: KEEP_FAILED },
  };
}

export function engineJobOf({ name, data, attemptsMade }: Job<JobData>): EngineJob {
  return { ...data, name, attempt: attemptsMade + 1 };
}
