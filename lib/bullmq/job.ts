import type { BulkJobOptions, Job } from 'bullmq';
import type { EngineEntry, EngineJob } from '../engine/engine.js';
import type { ResolvedBullmqOptions } from './options.js';

/** What a job of the queue holds. The arguments stay text: Postgres' own JSON knows neither every text nor every number. */
export type JobData = Pick<EngineJob, 'provider' | 'args' | 'timeout' | 'trace' | 'carried'>;

/** BullMQ counts in seconds. */
const ageOf = (milliseconds: number): { age: number } => ({ age: Math.ceil(milliseconds / 1_000) });

export function jobOf(
  { id, name, provider, args, timeout, trace, carried, options }: EngineEntry,
  { completed, failed }: ResolvedBullmqOptions['keep'],
): {
  name: string;
  data: JobData;
  opts: BulkJobOptions;
} {
  return {
    name,
    data: { provider, args, timeout, trace, carried },
    // An entry has no options that are undefined, which BullMQ's types rule out.
    opts: { ...(options as BulkJobOptions), jobId: id, removeOnComplete: ageOf(completed), removeOnFail: ageOf(failed) },
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
