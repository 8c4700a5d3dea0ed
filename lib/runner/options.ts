import type { ListRules } from '../list/task-list.js';
import type { Around } from '../task/call.js';
import type { OnError } from '../task/log.js';
import type { RunOn } from '../task/background-task.js';
import { BOOLEAN, type Expectation, type Expectations, FUNCTION, milliseconds, oneOf, RUN_ON, TIMEOUT } from '../task/validation.js';

/** Keeps a serverless function awake until a promise is settled. */
export type WaitUntil = (promise: Promise<void>) => unknown;

/** How an application runs its tasks. */
export interface RunnerOptions {
  /** How many tasks run at once in the application. @default Infinity */
  concurrency?: number | undefined;
  /** How many tasks may wait in the application; `addTask` beyond it throws a `BackgroundTasksOverflowError`. @default Infinity */
  maxPending?: number | undefined;
  /** Milliseconds after which a task is given up: its signal fires and the next one starts. @default none */
  timeout?: number | undefined;
  /** Milliseconds that `app.close()` waits for requests in flight and for tasks; what is left is given up. @default 30000 */
  shutdownTimeout?: number | undefined;
  /**
   * For platforms that freeze a process once it has answered. It is called once for each request that has tasks, when the first is added, with a
   * promise that is fulfilled when all of them have ended, and `onError` with them. The promise never rejects.
   *
   * It is called in the async context of the code that adds the task, so `waitUntil` of `@vercel/functions` goes in as it is. What it throws,
   * `addTask` throws. @default none
   */
  waitUntil?: WaitUntil | undefined;
  /** Called with the error of each task that failed, after it was logged. What this throws or rejects with is logged, too. */
  onError?: OnError | undefined;
  /**
   * Called around each run of a task, in process and in a worker, in the async context of the code that added the task. It may leave that
   * code's transaction, for example, or enter the scope of an error tracker. It calls `next()` once, which resolves with the result of the task,
   * and returns it. To make an error that a task returns its failure, it throws.
   *
   * What it throws is the task's failure. It cannot hide a failure of the task. The `timeout` of the task covers both. @default none
   */
  around?: Around | undefined;
  /** The outcome of a request on which its tasks run; with another they are discarded. @default 'success', as in FastAPI */
  runOn?: RunOn | undefined;
  /** When a task fails, the remaining tasks of its request run (`'continue'`) or are discarded (`'stop'`, as in Starlette). @default 'continue' */
  onTaskFailure?: 'continue' | 'stop' | undefined;
  /** Whether the tasks of a request run side by side, and not one after the other. @default false, as in FastAPI */
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
