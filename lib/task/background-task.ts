import type { TaskOptions } from './options.js';

/** A function as a task holds it: the types of its arguments were checked where the task was made. */
export type AnyFunction = (...args: never[]) => unknown;

/**
 * The function of a task itself, `addTask(send, to)`, and not what it returns, `addTask(send(to))`. Its arguments follow it; those of a
 * closure have their types from them: `addTask((to) => this.mail.send(to), dto.email)`.
 */
export type TheFunctionItself<Args extends unknown[]> = (...args: Args) => unknown;

/** One task: a function and its arguments, as Starlette's `BackgroundTask`. */
export interface BackgroundTask {
  readonly func: AnyFunction;
  readonly args: readonly unknown[];
  readonly options: Readonly<TaskOptions>;
  /** What logs and errors call the task: the name of a `@BackgroundTask()` method, the option `name`, the function's own name, or `anonymous`. */
  readonly name: string;
  /** Which attempt of an engine this is, from 1. In process there is only one. */
  readonly attempt: number;
  /** In a worker, what the option `carry` returned where the task was added; each time a copy of its own. */
  readonly carried: unknown;
  /** Fires when the task is given up: at its timeout, and at the shutdown deadline. Its reason is the error that says why. */
  readonly signal: AbortSignal;
  /** Runs the task now; rejects with its error, with a `BackgroundTasksTimeoutError`, or, while it runs, with `INVALID_TASK`. */
  run(): Promise<void>;
  /** What `JSON.stringify` makes of the task: nothing of its arguments, which are people's data. */
  toJSON(): { name: string };
}
