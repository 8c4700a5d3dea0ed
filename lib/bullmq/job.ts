import type { BulkJobOptions, Job, JobState } from 'bullmq';
import type { EngineEntry, EngineJob } from '../engine/engine.js';
import type { JsonValue, TaskState } from '../task/background-task.js';
import type { ResolvedBullmqOptions } from './options.js';

/** The data of a job in the queue. The arguments stay a string, as the JSON of Postgres cannot represent every string and every number. */
export interface JobData extends Pick<EngineJob, 'provider' | 'args' | 'timeout' | 'trace' | 'carried'> {
  /** The time at which a worker without the method first requeued the job, in ms since the epoch. */
  unknownSince?: number | undefined;
  /** The number of times that the job's worker had died when the job was last started without any other task beside it. */
  aloneAfterDeaths?: number | undefined;
}

/** The data of a job, which others may have put into the queue. */
export function dataOf({ data }: Job<JobData>): JobData {
  // The port checks each field.
  return typeof data === 'object' && data !== null ? data : ({} as JobData);
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
    // BullMQ's types rule out undefined options, and an entry has none.
    opts: { ...(options as BulkJobOptions), jobId: id, removeOnComplete: ageOf(completed), removeOnFail: ageOf(failed) },
  };
}

/** The job, for the worker that runs it. */
export function engineJobOf(job: Job<JobData>): EngineJob {
  const { id, name, attemptsMade, opts } = job;
  const { provider, args, timeout, trace, carried } = dataOf(job);
  return {
    provider,
    args,
    timeout,
    trace,
    carried,
    // Every job from a queue has an id.
    id: id!,
    name,
    attempt: attemptsMade + 1,
    // BullMQ stores 0 for a job without the option.
    attempts: opts.attempts || undefined,
    // BullMQ's type excludes `null`.
    updateProgress: (value) => job.updateProgress(value as object),
  };
}

/** The job, after BullMQ has failed it and counted its attempt. */
export function failedJobOf(job: Job<JobData>): EngineJob {
  return { ...engineJobOf(job), attempt: job.attemptsMade };
}

/** The state of a job in the queue. BullMQ cannot distinguish a progress of 0 from no progress. */
export function stateOf(job: Job<JobData>, found: JobState | 'unknown'): TaskState | undefined {
  // The job was removed between two calls.
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
