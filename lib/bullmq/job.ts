import type { BulkJobOptions, Job, JobState } from 'bullmq';
import type { EngineEntry, EngineJob } from '../engine/engine.js';
import type { JsonValue, TaskState } from '../task/background-task.js';
import type { ResolvedBullmqOptions } from './options.js';

/** The data of a job in the queue. The arguments stay text: Postgres' own JSON knows neither every text nor every number. */
export interface JobData extends Pick<EngineJob, 'provider' | 'args' | 'timeout' | 'trace' | 'carried'> {
  /** The time when a worker without the method first gave the job back, in ms. */
  unknownSince?: number | undefined;
  /** True if the job has been started with no other task beside it. */
  startedAlone?: boolean | undefined;
}

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
export function engineJobOf(job: Job<JobData>): EngineJob {
  const { id, name, data, attemptsMade, opts } = job;
  const { provider, args, timeout, trace, carried } = data;
  return {
    provider,
    args,
    timeout,
    trace,
    carried,
    // A job that a queue hands out has one.
    id: id!,
    name,
    attempt: attemptsMade + 1,
    // BullMQ has 0 for a job without the option.
    attempts: opts.attempts || undefined,
    // BullMQ's type leaves `null` out, and an array is an object.
    updateProgress: (value) => job.updateProgress(value as object),
  };
}

/** The job that BullMQ has just failed, and whose attempt it has counted. */
export function failedJobOf(job: Job<JobData>): EngineJob {
  return { ...engineJobOf(job), attempt: job.attemptsMade };
}

/** The state of a job that the queue has. BullMQ cannot tell a progress of 0 from none. */
export function stateOf(job: Job<JobData>, found: JobState | 'unknown'): TaskState | undefined {
  // Removed in between.
  if (found === 'unknown') return undefined;
  const state = found === 'completed' || found === 'failed' ? found : found === 'active' ? 'running' : 'waiting';
  const hasEnded = state === 'completed' || state === 'failed';
  const progress = job.progress as JsonValue;
  return {
    id: job.id!,
    name: job.name,
    state,
    attempt: hasEnded ? Math.max(1, job.attemptsMade) : job.attemptsMade + 1,
    ...(progress !== 0 && { progress }),
    ...(job.failedReason && state !== 'completed' && { failure: job.failedReason }),
  };
}
