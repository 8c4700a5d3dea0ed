import type { ListRules } from '../list/task-list.js';
import type { Around } from '../task/call.js';
import type { OnError } from '../task/log.js';
import type { RunOn } from '../task/background-task.js';
import { BOOLEAN, type Expectation, type Expectations, FUNCTION, milliseconds, oneOf, RUN_ON, TIMEOUT } from '../task/validation.js';

/** Keeps a serverless function running until a promise has settled. */
export type WaitUntil = (promise: Promise<void>) => unknown;

/** The options for running the tasks of an application. */
export interface RunnerOptions {
  /** The number of tasks that run at once in the application. @default Infinity */
  concurrency?: number | undefined;
  /**
   * The number of tasks that may wait in the application. Beyond it, `addTask` throws a `BackgroundTasksOverflowError`. @default Infinity
   */
  maxPending?: number | undefined;
  /** Time after which a task is aborted, in ms: its signal fires, and the next task starts. @default none */
  timeout?: number | undefined;
  /** Time that `app.close()` waits for requests in flight and for tasks, in ms. Tasks left after that are aborted. @default 30000 */
  shutdownTimeout?: number | undefined;
  /**
   * For platforms that freeze a process once it has answered. Called once for each request with tasks, when the first task is added, with a
   * promise that resolves when all of them, and their calls of `onError`, have ended. The promise never rejects.
   *
   * It is called in the async context of the code that adds the task, so you can pass `waitUntil` of `@vercel/functions` as it is. If it
   * throws, `addTask` throws that error. @default none
   */
  waitUntil?: WaitUntil | undefined;
  /** Called with the error of each failed task, after it has been logged. Its own errors are logged, too. */
  onError?: OnError | undefined;
  /**
   * Called around each run of a task, in process and in a worker, in the async context of the code that added the task. Use it, for
   * example, to leave that code's transaction, or to enter the scope of an error tracker. Call `next()` once, which resolves with the
   * result of the task, and return that. Throw to turn an error that a task returns into its failure.
   *
   * If it throws, the task has failed with that error. It cannot hide a failure of the task. The `timeout` of the task covers both.
   * @default none
   */
  around?: Around | undefined;
  /** The outcome of a request that makes its tasks run. On any other outcome they are discarded. @default 'success', as in FastAPI */
  runOn?: RunOn | undefined;
  /**
   * After a failed task, the remaining tasks of its request run (`'continue'`) or are discarded (`'stop'`, as in Starlette). @default
   * 'continue'
   */
  onTaskFailure?: 'continue' | 'stop' | undefined;
  /** If true, the tasks of a request run in parallel, not one after the other. @default false, as in FastAPI */
  parallel?: boolean | undefined;
}

export interface ResolvedRunnerOptions extends ListRules {
  readonly concurrency: number;
  readonly maxPending: number;
  readonly timeout: number | undefined;
  readonly shutdownTimeout: number;
  readonly waitUntil: WaitUntil | undefined;
  readonly onError: OnError | undefined;
  readonly around: Around | undefined;
  readonly parallel: boolean;
}

export const RUNNER_DEFAULTS: ResolvedRunnerOptions = {
  runOn: 'success',
  onTaskFailure: 'continue',
  concurrency: Infinity,
  maxPending: Infinity,
  timeout: undefined,
  shutdownTimeout: 30_000,
  waitUntil: undefined,
  onError: undefined,
  around: undefined,
  parallel: false,
};

const COUNT: Expectation = {
  expected: 'a positive integer or Infinity',
  accepts: (value) => value === Infinity || (Number.isInteger(value) && Number(value) > 0),
};

export const RUNNER_EXPECTATIONS: Expectations<RunnerOptions> = {
  runOn: RUN_ON,
  onTaskFailure: oneOf('continue', 'stop'),
  concurrency: COUNT,
  maxPending: COUNT,
  timeout: TIMEOUT,
  shutdownTimeout: milliseconds(0),
  waitUntil: FUNCTION,
  onError: FUNCTION,
  around: FUNCTION,
  parallel: BOOLEAN,
};
