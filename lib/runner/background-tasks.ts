import type { BackgroundTask } from '../engine/background-task.js';
import type { BackgroundTaskOptions } from '../engine/options.js';
import type { Argument, ArgumentsFor, Primitive, TheFunctionItself } from '../task/background-task.js';

/** The tasks of a request, as FastAPI's `BackgroundTasks`. */
export interface BackgroundTasks {
  /** The tasks added so far. Those of a request leave its list when they start. */
  readonly tasks: readonly BackgroundTask[];

  /**
   * Adds a function, to be called with these arguments once the response is out. Returns the task, to hold on to: its `id`, how it `ended`, and
   * `cancel()`.
   *
   * A plain method goes into a closure, with its values as arguments: `addTask((to) => this.mail.send(to), dto.email)`. A bare
   * `this.mail.send` has lost its `this`, which cannot be detected. A closure that takes no arguments reads what the handler may change later.
   * A `@BackgroundTask()` method is passed itself: `addTask(this.mail.sendInvoice, dto.email)`.
   *
   * @throws BackgroundTasksError `INVALID_TASK` without a function, `INVALID_OPTION` for a bad option, `OVERFLOW` beyond `maxPending`,
   * `SHUTDOWN` once the application has closed.
   */
  addTask<Args extends Argument<Literal>[], Literal extends Primitive = Primitive>(
    func: TheFunctionItself<Args>,
    ...args: ArgumentsFor<Args>
  ): BackgroundTask;
  addTask<Args extends Argument<Literal>[], Literal extends Primitive = Primitive>(
    options: BackgroundTaskOptions,
    func: TheFunctionItself<Args>,
    ...args: ArgumentsFor<Args>
  ): BackgroundTask;

  /**
   * Runs the tasks of a list made by hand, in order, each once, whatever its `runOn`; tasks that they add run, too.
   *
   * @throws The error of the task that failed; an `AggregateError` if several did.
   */
  run(): Promise<void>;

  /** What `JSON.stringify` makes of the list: its tasks, without their arguments. */
  toJSON(): readonly BackgroundTask[];
}
