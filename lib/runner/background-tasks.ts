import type { BackgroundTask } from '../engine/background-task.js';
import type { BackgroundTaskOptions } from '../engine/options.js';

/** The tasks of a request, as FastAPI's `BackgroundTasks`. */
export interface BackgroundTasks {
  /** The tasks added so far. Those of a request leave its list when they start. */
  readonly tasks: readonly BackgroundTask[];

  /**
   * Adds a function, to be called with these arguments once the response is out.
   *
   * Pass a method in a closure, `() => this.mailer.send(to)`: that a bare `this.mailer.send` has lost its `this` cannot be detected.
   *
   * @throws BackgroundTasksError `INVALID_TASK` without a function, `INVALID_OPTION` for a bad option, `OVERFLOW` beyond `maxPending`,
   * `SHUTDOWN` once the application has closed.
   */
  addTask<Args extends unknown[]>(func: (...args: Args) => unknown, ...args: NoInfer<Args>): void;
  addTask<Args extends unknown[]>(options: BackgroundTaskOptions, func: (...args: Args) => unknown, ...args: NoInfer<Args>): void;

  /**
   * Runs the tasks of a list made by hand, in order, each once, whatever its `runOn`; tasks that they add run, too.
   *
   * @throws The error of the task that failed; an `AggregateError` if several did.
   */
  run(): Promise<void>;

  /** What `JSON.stringify` makes of the list: its tasks, without their arguments. */
  toJSON(): readonly BackgroundTask[];
}
