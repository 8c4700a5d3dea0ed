import type { BulkJobOptions, Job } from 'bullmq';
import type { EngineEntry, EngineJob } from '../engine/engine.js';

/** What a job of the queue holds. The arguments stay text: Postgres' own JSON knows neither every text nor every number. */
export interface JobData extends Pick<EngineJob, 'provider' | 'args' | 'timeout' | 'trace' | 'carried'> {
  /** The time when a worker without the method first gave the job back, in ms. */
  unknownSince?: number | undefined;
  /** True if the job has been started with no other task beside it. */
  startedAlone?: boolean | undefined;
}

/**
 * A finished job stays known for longer than it may be handed over again, as it would be a new job otherwise. Seconds. By age alone: a big
 * flush, or many of them, would push jobs out of a count, and workers that trim to a count run into each other's locks on Postgres.
 */
const KEEP_COMPLETED = { age: 600 };
/** A week, for somebody to look at it. */
const KEEP_FAILED = { age: 7 * 24 * 3_600 };

export function jobOf({ id, name, provider, args, timeout, trace, carried, options }: EngineEntry): {
  name: string;
  data: JobData;
  opts: BulkJobOptions;
} {
  return {
    name,
    data: { provider, args, timeout, trace, carried },
    // An entry has no options that are undefined, which BullMQ's types rule out.
    opts: { ...(options as BulkJobOptions), jobId: id, removeOnComplete: KEEP_COMPLETED, removeOnFail: KEEP_FAILED },
  };
}

/** The job that runs. */
export function engineJobOf({ id, name, data, attemptsMade }: Job<JobData>): EngineJob {
  // A job that a queue hands out has one.
  return { ...data, id: id!, name, attempt: attemptsMade + 1 };
}

/** The job that BullMQ has just failed, and whose attempt it has counted. */
export function failedJobOf(job: Job<JobData>): EngineJob {
  return { ...engineJobOf(job), attempt: job.attemptsMade };
}
