import type { TrackedTasks } from '../list/tracked-tasks.js';
import { BackgroundTasksShutdownError } from '../task/errors.js';
import type { Reporter } from '../task/reporter.js';
import type { Task } from '../task/task.js';
import type { Workload } from './workload.js';

/** Gives up, when the time of a shutdown is over, the tasks that have not ended, and tells which of them end after all. */
export class Closing {
  readonly #work: Workload;
  readonly #reporter: Reporter;
  readonly #givenUp = new Set<Task>();

  constructor(work: Workload, reporter: Reporter) {
    this.#work = work;
    this.#reporter = reporter;
  }

  /** Gives up the tasks of these lists. Each is reported. */
  giveUp(lists: readonly TrackedTasks[], reason: string, report: (task: Task, error: unknown) => void): void {
    for (const task of lists.flatMap((list) => list.clear())) {
      this.#work.pending -= 1;
      this.#reporter.neverStarts(task, reason);
      report(task, new BackgroundTasksShutdownError(task.name, `never started: ${reason}`));
    }
    // Only now: the next task of its list would start.
    for (const { running } of lists) {
      if (!running?.giveUp(new BackgroundTasksShutdownError(running.name, `was given up: ${reason}`))) continue;
      this.#givenUp.add(running);
      this.#work.lingering += 1;
    }
  }

  /** Says that the function of a task has ended, be it that it had been given up here. */
  ended(task: Task): void {
    if (!this.#givenUp.delete(task)) return;
    this.#work.lingering -= 1;
    this.#work.decreased();
  }
}
