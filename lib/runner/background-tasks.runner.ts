import { Execution } from './execution.js';

/** Executes and tracks the tasks of an application. */
export class BackgroundTasksRunner {
  readonly #execution: Execution;

  /** Made by `BackgroundTasksModule`: inject it. @internal */
  constructor(execution = new Execution()) {
    this.#execution = execution;
  }

  /** The tasks that run now. */
  get activeCount(): number {
    return this.#execution.work.active;
  }

  /** The tasks that were added and have not started, those of requests in flight included. */
  get pendingCount(): number {
    return this.#execution.work.pending;
  }

  /** The tasks that were discarded since the application started, because of the outcome of their request or a failed sibling. */
  get discardedCount(): number {
    return this.#execution.discarded;
  }

  /**
   * Resolves once no task is pending or active, and every `onError` is through. A client that has its answer can call it at once: the tasks
   * of its request count from the moment they were added.
   */
  onIdle(): Promise<void> {
    return this.#execution.work.onIdle();
  }
}
