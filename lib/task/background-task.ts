/** The function of a task. The types of its arguments were checked where the task was made. */
export type AnyFunction = (...args: never[]) => unknown;

/**
 * The function itself, `addTask(send, to)`, not its result, `addTask(send(to))`. Its arguments follow it. A closure infers the types of its
 * parameters from them: `addTask((to) => this.mail.send(to), dto.email)`.
 */
export type TheFunctionItself<Args extends unknown[]> = (...args: Args) => unknown;

export type Primitive = string | number | bigint | boolean;

/**
 * Any value. This union accepts everything, and a type parameter in it makes TypeScript keep literals at any depth. In
 * `addTask((mail) => send(mail), { template: 'invitation' })`, `mail.template` is an `'invitation'`, not a `string`. A `const` type
 * parameter would make arrays read-only.
 */
export type Argument<Literal> = Literal | Argument<Literal>[] | [] | { [key: string]: Argument<Literal> } | {} | null | undefined;

/**
 * The arguments of a function. Inferred through this mapping, they determine `Args` only if the function declares no parameters of its own.
 */
export type ArgumentsFor<Args extends unknown[]> = { [Index in keyof Args]: Args[Index] };

/** The outcome of a request on which a task runs. */
export type RunOn = 'success' | 'failure' | 'always';

/** Options of one task. */
export interface TaskOptions {
  /** The name of the task in logs and errors. @default the function's own name */
  name?: string | undefined;
  /** Time after which the task is aborted, in ms: its signal fires, and the next task starts. @default the module's `timeout` */
  timeout?: number | undefined;
  /** The outcome of the request that makes the task run. On any other outcome it is discarded. @default the module's `runOn` */
  runOn?: RunOn | undefined;
  /**
   * If true, the task does not wait for the tasks before it in its list, and the tasks after it do not wait for it. Outcomes, failures,
   * limits and the shutdown apply as to any task. @default the module's `parallel`
   */
  parallel?: boolean | undefined;
}

/**
 * How a task ended. `'failed'`: it threw, or was aborted at its timeout or at the shutdown deadline. `'discarded'`: it never started, and
 * never will. `'cancelled'`: `cancel()` was called, before or after its start. `'queued'`: an engine has it now.
 */
export type TaskEnd = 'completed' | 'failed' | 'discarded' | 'cancelled' | 'queued';

/** Any value that JSON can represent. */
export type JsonValue = string | number | boolean | null | { readonly [key: string]: JsonValue | undefined } | readonly JsonValue[];

/** The state of a task, as returned by `BackgroundTasksRunner#state`. */
export interface TaskState {
  readonly id: string;
  readonly name: string;
  /** `'waiting'`: it has not started, or waits for another attempt. `'discarded'`: it never started, and never will. */
  readonly state: 'waiting' | 'running' | 'completed' | 'failed' | 'discarded' | 'cancelled';
  /** The number of the current attempt, counted from 1; of the last one if the task has ended, of the next one if it waits. */
  readonly attempt: number;
  /** The last value passed to `updateProgress()`, if any. */
  readonly progress?: JsonValue | undefined;
  /** The error message of the last failed attempt. It may contain personal data: check it before you show it. */
  readonly failure?: string | undefined;
}

/**
 * One task: a function and its arguments, like Starlette's `BackgroundTask`. You may keep it: a task of a request releases its function,
 * its arguments and its async context when it ends.
 */
export interface BackgroundTask {
  /** A function that does nothing once the task of a request has ended. */
  readonly func: AnyFunction;
  /** Empty once the task of a request has ended. */
  readonly args: readonly unknown[];
  readonly options: Readonly<TaskOptions>;
  /** The name in logs and errors: that of a `@BackgroundTask()` method, the option `name`, the function's own name, or `anonymous`. */
  readonly name: string;
  /**
   * A UUID, generated when it is first read. `BackgroundTasksRunner#find` looks the task up by it. On an engine it is also the id of the
   * job.
   */
  readonly id: string;
  /** The number of the engine's attempt, counted from 1. In process there is only one. */
  readonly attempt: number;
  /** In a worker, the value that the option `carry` returned when the task was added. Every read returns a new copy. */
  readonly carried: unknown;
  /** The last value passed to `updateProgress()`; undefined before the first call. */
  readonly progress: JsonValue | undefined;
  /**
   * Reports the progress of the task, as any JSON value. `BackgroundTasksRunner#state` returns it; if a worker runs the task, in every
   * process.
   *
   * @returns A promise that resolves once the value is stored. It never rejects: a failure to store it is logged, and the task goes on.
   * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK`, at once, for a value that JSON cannot represent.
   */
  updateProgress(value: JsonValue): Promise<void>;
  /** Fires when the task is aborted: at its timeout, at the shutdown deadline, or by `cancel()`. The reason is the error that says why. */
  readonly signal: AbortSignal;
  /** Resolves when the task ends, with how it ended. It never rejects: errors go to the log and to `onError`. */
  readonly ended: Promise<TaskEnd>;
  /**
   * Withdraws the task. A waiting task never starts. A running task is aborted: its signal fires with a `BackgroundTasksCancelledError`,
   * and the next task starts. A cancelled task has not failed: it is logged at the level `debug`, and `onError` is not called.
   *
   * @param reason for the log
   * @returns `false` if the task has ended already, or if an engine has it
   */
  cancel(reason?: string): boolean;
  /**
   * Runs a task that was made by hand, immediately. Tasks of a request run by themselves.
   *
   * @throws The error of the task; a `BackgroundTasksTimeoutError` or `BackgroundTasksCancelledError`; a BackgroundTasksError
   * `BACKGROUND_TASK_INVALID_TASK` if the task is running already, `BACKGROUND_TASK_LIST_OF_A_REQUEST` if it belongs to a request.
   */
  run(): Promise<void>;
  /** Used by `JSON.stringify`. Arguments are left out, as they may be personal data. */
  toJSON(): { name: string };
}
