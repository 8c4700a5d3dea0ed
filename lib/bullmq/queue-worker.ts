import { setTimeout } from 'node:timers/promises';
import { DelayedError, UnrecoverableError, Worker } from 'bullmq';
import { mendConnections, stopWaiting } from './bullmq-5.js';
import type { JobData } from './job.js';

/** Milliseconds before a worker that could not start, or whose server refuses it, tries again. */
export const RETRY_DELAY = 1_000;

/** Seconds for which a worker waits for tasks at most: by then it looks whether there are some that its connection has not told it of. */
const LONGEST_WAIT = 5;

/** How often the end of a task is written down if that fails. A deadlock, or the restart of a server, is over by then. */
const TRIES = 3;

/** BullMQ's worker, where it would lose a task, or its end. */
export class QueueWorker extends Worker<JobData> {
  /** The failures of tasks. */
  readonly failures = new WeakSet<Error>();
  readonly #abandoned = new AbortController();

  constructor(...worker: ConstructorParameters<typeof Worker<JobData>>) {
    super(...worker);
    mendConnections(this);
  }

  /** Without its server, a worker does not get as far as to stop renewing locks, and the process would not end. */
  async abandon(): Promise<void> {
    this.#abandoned.abort();
    stopWaiting(this);
    await this.lockManager.close();
    await this.disconnect();
  }

  protected override async handleCompleted(...end: Parameters<Worker<JobData>['handleCompleted']>) {
    return this.#writtenDown(() => super.handleCompleted(...end));
  }

  /**
   * BullMQ takes for a failure of the task whatever keeps it from writing down that the task has ended, or that it was given back. Such a task
   * is left to its lock, and is run again when that has run out.
   */
  protected override async handleFailed(...failure: Parameters<Worker<JobData>['handleFailed']>) {
    const [error] = failure;
    if (this.failures.has(error) || error instanceof UnrecoverableError) return this.#writtenDown(() => super.handleFailed(...failure));
    // The job was given back, as the worker closes.
    if (!(error instanceof DelayedError)) this.emit('error', error);
    // As BullMQ's own does when it has no other task at hand, whatever its type says.
    return undefined as never;
  }

  /** With a task that is due in an hour, BullMQ waits for an hour on Postgres, even if its connection is dead. */
  protected override getBlockTimeout(blockUntil: number): number {
    return Math.min(super.getBlockTimeout(blockUntil), LONGEST_WAIT);
  }

  /** What writes down the end of a task, tried again if that fails. A worker that is abandoned leaves the task to its lock. */
  async #writtenDown<Next>(write: () => Promise<Next>): Promise<Next> {
    const { signal } = this.#abandoned;
    for (let tries = 1; !signal.aborted; tries++) {
      try {
        return await write();
      } catch (error) {
        if (tries === TRIES) throw error;
        await setTimeout(RETRY_DELAY, undefined, { signal }).catch(() => undefined);
      }
    }
    // As BullMQ's own does when it has no other task at hand, whatever its type says.
    return undefined as never;
  }
}
