import type { Reporter } from '../task/reporter.js';
import type { Task } from '../task/task.js';
import type { ResolvedListOptions } from './options.js';

/** What a list needs of the runner. */
export interface ListRunner<List> {
  readonly options: ResolvedListOptions;
  readonly reporter: Reporter;
  /** The tasks that have not ended and were asked for their ids, by these. */
  readonly known: Map<string, Task>;
  /** Takes responsibility for a task that is about to be added to a list; throws if it is not taken. */
  admit(task: Task, list: List): void;
  /** Gives a flushed list its turns until it is empty. */
  enqueue(list: List): void;
  /** Goes on after a task of the list. */
  ended(list: List): void;
  /** Logs a task's error and hands it to `onError`, or says that it was cancelled. */
  report(task: Task, error: unknown): void;
  /** Says how the function of a task ended that had been given up. */
  endedLate(task: Task, how: 'completed' | 'failed', error: unknown): void;
  /** Lets go of a task that its list will not run. */
  discard(task: Task, reason: string): void;
}
