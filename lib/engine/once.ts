import { AsyncLocalStorage } from 'node:async_hooks';
import { currentTask } from '../task/current-task.js';
import { Task } from '../task/task.js';
import type { BackgroundTasksOutbox, OutboxClient } from './outbox.js';

const storage = new AsyncLocalStorage<OnceRun>();

/** One run of a task with `once`. The first transaction that it opens marks the task as done. */
export class OnceRun {
  readonly #outbox: BackgroundTasksOutbox;
  readonly #id: string;
  /** The transaction that contains the mark. */
  #markedIn: object | undefined;
  #isMarked = false;
  #hasFailedToMark = false;
  #isOver = false;

  constructor(outbox: BackgroundTasksOutbox, id: string) {
    this.#outbox = outbox;
    this.#id = id;
  }

  /** The run that the current code is part of. */
  static get current(): OnceRun | undefined {
    const run = storage.getStore();
    if (!run || run.#isOver) return undefined;
    // A task in process that this one has added is part of its async context.
    const task = currentTask();
    return Task.isTask(task) && task.jobId === run.#id ? run : undefined;
  }

  /** True once the mark is committed. */
  get isMarked(): boolean {
    return this.#isMarked;
  }

  /** True if a transaction could not write the mark, as another run may have committed it. */
  get hasFailedToMark(): boolean {
    return this.#hasFailedToMark;
  }

  /** Calls the task. If it is aborted, its function may go on, and still open its transaction. */
  async call<Result>(func: () => Promise<Result>, isAborted: () => boolean): Promise<Result> {
    try {
      return await storage.run(this, func);
    } finally {
      this.#isOver = !isAborted();
    }
  }

  /** True if the transaction contains the mark. */
  isMarkedIn(transaction: object): boolean {
    return this.#markedIn === transaction;
  }

  /** Marks the task as done at the beginning of a transaction. Rejects if another run has committed. */
  async mark(transaction: object, client: OutboxClient): Promise<void> {
    if (this.#markedIn || this.#isMarked) return;
    this.#markedIn = transaction;
    try {
      await this.#outbox.markDone(client, this.#id);
    } catch (error) {
      this.#hasFailedToMark = true;
      throw error;
    }
  }

  committed(transaction: object): void {
    if (this.#markedIn === transaction) this.#isMarked = true;
  }

  rolledBack(transaction: object): void {
    if (this.#markedIn === transaction) this.#markedIn = undefined;
  }
}
