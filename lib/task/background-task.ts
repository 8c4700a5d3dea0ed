/** A function as a task holds it: the types of its arguments were checked where the task was made. */
export type AnyFunction = (...args: never[]) => unknown;

/**
 * The function of a task itself, `addTask(send, to)`, and not its result, `addTask(send(to))`. Its arguments follow it; the parameters of a
 * closure have their types from them: `addTask((to) => this.mail.send(to), dto.email)`.
 */
export type TheFunctionItself<Args extends unknown[]> = (...args: Args) => unknown;

export type Primitive = string | number | bigint | boolean;

/**
 * Any value. This union accepts everything, and a type parameter in it makes TypeScript keep literals at any depth. In
 * `addTask((mail) => send(mail), { template: 'invitation' })`, `mail.template` is an `'invitation'`, not a `string`. A `const` type parameter would make
 * arrays read-only.
 */
export type Argument<Literal> = Literal | Argument<Literal>[] | [] | { [key: string]: Argument<Literal> } | {} | null | undefined;

/** The arguments themselves. Inferred through this mapping, they decide on `Args` only if the function declares no parameters of its own. */
export type ArgumentsFor<Args extends unknown[]> = { [Index in keyof Args]: Args[Index] };

/** The outcome of a request on which a task runs. */
export type RunOn = 'success' | 'failure' | 'always';

/** Options of one task. */
export interface TaskOptions {
  /** What logs and errors call the task. @default the function's own name */
  name?: string | undefined;
  /** Milliseconds after which the task is given up: its signal fires and the next one starts. @default the module's `timeout` */
  timeout?: number | undefined;
  /** The outcome of the request on which the task runs; with another it is discarded. @default the module's `runOn` */
  runOn?: RunOn | undefined;
  /**
   * Whether the task waits for none before it in its list, and none after it waits for it. Its outcome, failures, limits and the shutdown are those
   * of any task. @default the module's `parallel`
   */
  parallel?: boolean | undefined;
}

/**
 * How a task ended. `'failed'`: it threw, or it was given up at its timeout or at the shutdown deadline. `'discarded'`: it never started, and
 * will not. `'cancelled'`: by `cancel()`, whether it had started or not. `'queued'`: an engine has it now.
 */
export type TaskEnd = 'completed' | 'failed' | 'discarded' | 'cancelled' | 'queued';

/** What JSON can hold. */
export type JsonValue = string | number | boolean | null | { readonly [key: string]: JsonValue | undefined } | readonly JsonValue[];

/** The state of a task, as `BackgroundTasksRunner#state` finds it. */
export interface TaskState {
  readonly id: string;
  readonly name: string;
  /** `'waiting'`: it has not started, or waits for another attempt. `'discarded'`: it never started, and will not. */
  readonly state: 'waiting' | 'running' | 'completed' | 'failed' | 'discarded' | 'cancelled';
  /** The attempt that runs, ran last, or comes next, from 1. */
  readonly attempt: number;
  /** The last value of `updateProgress()`, if there is one. */
  readonly progress?: JsonValue | undefined;
  /** The message of the error that the last attempt failed with. It may hold people's data: check it before you show it. */
  readonly failure?: string | undefined;
}

/**
 * One task: a function and its arguments, as Starlette's `BackgroundTask`. It may be kept: once it has ended, a task of a request lets go of
 * its function, its arguments and its async context.
 */
export interface BackgroundTask {
  /** One that does nothing, once the task of a request has ended. */
  readonly func: AnyFunction;
  /** None, once the task of a request has ended. */
  readonly args: readonly unknown[];
  readonly options: Readonly<TaskOptions>;
  /** What logs and errors call the task: the name of a `@BackgroundTask()` method, the option `name`, the function's own name, or `anonymous`. */
  readonly name: string;
  /** A UUID, made when it is first read. `BackgroundTasksRunner#find` finds the task by it. For a task of an engine it is the id of the job. */
  readonly id: string;
  /** Which attempt of an engine this is, from 1. In process there is only one. */
  readonly attempt: number;
  /** In a worker, what the option `carry` returned where the task was added; each time a copy of its own. */
  readonly carried: unknown;
  /** The last value of `updateProgress()`; undefined before the first one. */
  readonly progress: JsonValue | undefined;
  /**
   * Says how far the task is: any JSON. `BackgroundTasksRunner#state` has it, in a worker's case from every process.
   *
   * @returns A promise that resolves once it is written down. It never rejects: a failure to write is logged, and the task goes on.
   * @throws BackgroundTasksError `INVALID_TASK`, at once, for a value that JSON cannot hold.
   */
  updateProgress(value: JsonValue): Promise<void>;
  /** Fires when the task is given up: at its timeout, at the shutdown deadline, or cancelled. Its reason is the error that says why. */
  readonly signal: AbortSignal;
  /** How the task ended, as soon as it has. It never rejects: errors go to the log and to `onError`. */
  readonly ended: Promise<TaskEnd>;
  /**
   * Takes the task back. A task that waits is discarded. One that runs has its signal fired, with a `BackgroundTasksCancelledError`, and is
   * given up: the next one starts. That is no failure: it is logged at the level `debug`, and `onError` does not hear of it.
   *
   * @param reason for the log
   * @returns `false` if the task has ended already, or if an engine has it
   */
  cancel(reason?: string): boolean;
  /**
   * Runs a task that was made by hand, now. Tasks of a request run by themselves.
   *
   * @throws The error of the task; a `BackgroundTasksTimeoutError` or `BackgroundTasksCancelledError`; a BackgroundTasksError `INVALID_TASK` while
   * the task runs, `LIST_OF_A_REQUEST` for one of a request.
   */
  run(): Promise<void>;
  /** What `JSON.stringify` makes of the task: nothing of its arguments, which are people's data. */
  toJSON(): { name: string };
}
