import type { TrackedTasks } from '../list/tracked-tasks.js';
import { BackgroundTasksShutdownError } from '../task/errors.js';
import type { Reporter } from '../task/reporter.js';
import type { Task } from '../task/task.js';
import { inSlices } from './slices.js';
import type { Workload } from './workload.js';

/**
 * Gives up, when the time of a shutdown is over, the tasks that have not ended, and tells which of them end after all. However many there
 * are, the event loop lives, and the log has one line for those that ran and one for those that waited.
 */
export class Closing {
  readonly #work: Workload;
  readonly #reporter: Reporter;
  readonly #givenUp = new Set<Task>();

  constructor(work: Workload, reporter: Reporter) {
    this.#work = work;
    this.#reporter = reporter;
  }

  /** Gives up the tasks of these lists. `tell` is called with each that never started. */
  async giveUp(lists: readonly TrackedTasks[], reason: string, tell: (task: Task, error: Error) => void): Promise<void> {
    // Off their lists at once, or the next one would start in the place of one that is given up.
    const waiting = lists.map((list) => list.clear());
    const running = new Map<string, number>();
    await inSlices(lists, ({ running: task }) => task && this.#giveUp(task, reason) && count(running, task.name));
    this.#reporter.lost(running, 'was given up', 'were given up', reason);
    const neverStarted = new Map<string, number>();
    const lost: Task[] = [];
    await inSlices(each(waiting), (task) => {
      // The signal of another one may have cancelled it.
      if (task.hasEnded) return;
      task.end('discarded');
      count(neverStarted, task.name);
      lost.push(task);
    });
    this.#reporter.lost(neverStarted, 'never started', 'never started', reason);
    await inSlices(lost, (task) => {
      this.#reporter.neverStarts(task, reason);
      this.#work.pending -= 1;
      tell(
        task,
        withoutStack(() => new BackgroundTasksShutdownError(task.name, `never started: ${reason}`)),
      );
    });
  }

  #giveUp(task: Task, reason: string): boolean {
    this.#givenUp.add(task);
    this.#work.lingering += 1;
    if (task.giveUp(new BackgroundTasksShutdownError(task.name, `was given up: ${reason}`))) return true;
    this.ended(task);
    return false;
  }

  /** Whether a task was given up here, and has been logged with the others. */
  gaveUp(task: Task): boolean {
    return this.#givenUp.has(task);
  }

  /** Says that the function of a task has ended, which may have been given up here. */
  ended(task: Task): void {
    if (!this.#givenUp.delete(task)) return;
    this.#work.lingering -= 1;
    this.#work.decreased();
  }
}

/** What makes many errors in one place does not say more with a stack for each, which takes most of the time. */
function withoutStack(make: () => Error): Error {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  const error = make();
  Error.stackTraceLimit = stackTraceLimit;
  return error;
}

function* each(lists: readonly Iterable<Task>[]): Iterable<Task> {
  for (const list of lists) yield* list;
}

function count(names: Map<string, number>, name: string): void {
  names.set(name, (names.get(name) ?? 0) + 1);
}
