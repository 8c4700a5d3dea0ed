import { messageOf } from '../task/describe-error.js';
import type { Reporter } from '../task/reporter.js';
import type { Task } from '../task/task.js';
import type { Closing } from './closing.js';
import { inSlices } from './slices.js';
import type { Workload } from './workload.js';

/** Has the reporter say what became of tasks, counts what it is still at, and lets go of each task after that. */
export class Reports {
  discardedCount = 0;
  readonly #work: Workload;
  readonly #reporter: Reporter;
  readonly #closing: Closing;

  constructor(work: Workload, reporter: Reporter, closing: Closing) {
    this.#work = work;
    this.#reporter = reporter;
    this.#closing = closing;
  }

  /** Of a task that failed, or was cancelled while it ran. */
  failed(task: Task, error: unknown): void {
    // It may be the one that awaits the shutdown, which would go on beside another one in its place.
    if (task.details?.givenUp) this.#work.closing = 0;
    if (task.state === 'cancelled') {
      this.#reporter.cancelled(task, error);
      return this.#over(task);
    }
    // What a shutdown gives up is logged in one line.
    if (this.#closing.gaveUp(task)) this.tell(task, error);
    else this.#reported(task, this.#reporter.failed(task, error));
  }

  /** The same of a task that has been logged together with others. */
  tell(task: Task, error: unknown): void {
    this.#reported(task, this.#reporter.tell(task, error));
  }

  discarded(task: Task, reason: string): void {
    this.#work.pending -= 1;
    this.discardedCount += 1;
    this.#reporter.discarded(task, reason);
    this.#over(task);
  }

  /** Of tasks that the engine did not take. */
  notDelivered(tasks: readonly Task[], error: unknown): void {
    this.#reporter.failedTogether(tasks, error);
    this.#work.reporting += 1;
    void inSlices(tasks, (task) => {
      task.end('discarded');
      this.#reporter.neverStarts(task, messageOf(error));
      this.tell(task, error);
    }).then(() => {
      this.#work.reporting -= 1;
      this.#work.decreased();
    });
  }

  #reported(task: Task, told: Promise<void> | undefined): void {
    if (!told) return this.#over(task);
    this.#work.reporting += 1;
    void told.then(() => {
      this.#work.reporting -= 1;
      this.#over(task);
    });
  }

  #over(task: Task): void {
    task.release();
    this.#work.decreased();
  }
}
