import { AsyncResource } from 'node:async_hooks';
import { observed, traced } from './background-tasks.diagnostics.js';
import { BackgroundTasksTimeoutError, invalid } from './background-tasks.errors.js';
import { type BackgroundTaskOptions, checkTaskOptions } from './background-tasks.options.js';

let running: BackgroundTask | undefined;

/**
 * The task that runs, from its call up to its first `await`; `undefined` elsewhere. Take what you need first thing:
 * `const signal = currentTask()?.signal`.
 */
export function currentTask(): BackgroundTask | undefined {
  return running;
}

class Task {
  static readonly name = 'BackgroundTask';

  /** What logs and errors call the task: the option `name`, or the function's own name, or `anonymous`. */
  readonly name: string;
  readonly func: AnyFunction;
  readonly args: readonly unknown[];
  readonly options: Readonly<BackgroundTaskOptions>;

  /** The async context of the code that made the task. Capturing it turns no async hooks on; entering a store would. */
  readonly #context = new AsyncResource('BackgroundTask');
  #controller: AbortController | undefined;
  #stopWaiting: ((error: Error) => void) | undefined;

  constructor(first: unknown, ...rest: unknown[]) {
    const func = typeof first === 'function' ? first : rest.shift();
    if (typeof func !== 'function') {
      // Without options in front, what follows is an argument, which is nobody's business.
      throw invalid('INVALID_TASK', 'a task', 'a function, or options and a function', first instanceof Object ? (func ?? first) : first);
    }
    this.options = func === first ? {} : checkTaskOptions(first);
    // The constructor type has matched the function with its arguments.
    this.func = func as AnyFunction;
    this.args = rest;
    this.name = this.options.name ?? (func.name || 'anonymous');
  }

  /** Fires when the task is given up: at its timeout, and at the shutdown deadline. Its reason is the error that says why. */
  get signal(): AbortSignal {
    return (this.#controller ??= new AbortController()).signal;
  }

  /** Runs the task now; rejects with its error, or with a `BackgroundTasksTimeoutError`. */
  async run(): Promise<void> {
    await this.start(this.options.timeout);
  }

  /**
   * Calls the function. Returns a promise only where the function did: settled as the function's is, or as soon as the task is given up.
   * @internal
   */
  start(timeout: number | undefined, onLateEnd?: LateEndListener): Promise<void> | undefined {
    if (observed()) return this.within(() => traced(this, () => this.#end(call(this), timeout, onLateEnd)));
    return this.#end(this.#context.runInAsyncScope(call, undefined, this), timeout, onLateEnd);
  }

  /**
   * Calls a function in the async context of the code that made the task.
   * @internal
   */
  within<Result>(func: () => Result): Result {
    return this.#context.runInAsyncScope(func);
  }

  /**
   * Stops waiting for the running task, and fires its signal.
   * @internal
   */
  giveUp(error: Error): void {
    this.#stopWaiting?.(error);
    (this.#controller ??= new AbortController()).abort(error);
  }

  #end(result: unknown, timeout: number | undefined, onLateEnd: LateEndListener | undefined): Promise<void> | undefined {
    return isThenable(result) ? this.#settled(result, timeout, onLateEnd) : undefined;
  }

  #settled(result: PromiseLike<unknown>, timeout: number | undefined, onLateEnd: LateEndListener | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      let waiting = true;
      const stop = (settle: () => void, late?: () => void): void => {
        if (!waiting) return late?.();
        waiting = false;
        this.#stopWaiting = undefined;
        clearTimeout(timer);
        settle();
      };
      const timer =
        timeout === undefined ? undefined : setTimeout(() => this.giveUp(new BackgroundTasksTimeoutError(this.name, timeout)), timeout);
      this.#stopWaiting = (error) => stop(() => reject(error));
      // `Promise.resolve` tames a foreign thenable, whose `then` may throw or call back twice.
      Promise.resolve(result).then(
        () => stop(resolve, () => onLateEnd?.('completed')),
        (error: unknown) =>
          stop(
            () => reject(error),
            () => onLateEnd?.('failed', error),
          ),
      );
    });
  }
}

/** Told how the function of a given-up task ended after all. */
export type LateEndListener = (how: 'completed' | 'failed', error?: unknown) => void;

type AnyFunction = (...args: never[]) => unknown;

function call(task: Task): unknown {
  const outer = running;
  running = task;
  try {
    const func = task.func as (...args: unknown[]) => unknown;
    return func(...task.args);
  } finally {
    running = outer;
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
}

export interface BackgroundTask extends Task {}

export interface BackgroundTaskConstructor {
  readonly prototype: BackgroundTask;
  new <Args extends unknown[]>(func: (...args: Args) => unknown, ...args: NoInfer<Args>): BackgroundTask;
  new <Args extends unknown[]>(options: BackgroundTaskOptions, func: (...args: Args) => unknown, ...args: NoInfer<Args>): BackgroundTask;
}

/**
 * One task: a function and its arguments, as Starlette's `BackgroundTask`.
 *
 * Pass a method in a closure, `() => this.mailer.send(to)`: that a bare `this.mailer.send` has lost its `this` cannot be detected.
 *
 * @throws BackgroundTasksError `INVALID_TASK` without a function, `INVALID_OPTION` for a bad option.
 */
export const BackgroundTask: BackgroundTaskConstructor = Task;
