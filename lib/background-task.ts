import { AsyncResource } from 'node:async_hooks';
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

const NO_OPTIONS: Readonly<BackgroundTaskOptions> = Object.freeze({});

class Task {
  static readonly name = 'BackgroundTask';

  /** What logs and errors call the task: the option `name`, or the function's own name, or `anonymous`. */
  readonly name: string;
  readonly func: AnyFunction;
  readonly args: readonly unknown[];
  readonly options: Readonly<BackgroundTaskOptions>;
  /** The one after it in its list. @internal */
  behind: BackgroundTask | undefined;

  /** The async context of the code that made the task. Capturing it turns no async hooks on; entering a store would. */
  readonly #context = new AsyncResource('BackgroundTask');
  #controller: AbortController | undefined;
  /** Set while the task runs. */
  #awaited: TaskObserver | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(first: unknown, ...rest: unknown[]) {
    const func = typeof first === 'function' ? first : rest.shift();
    if (typeof func !== 'function') {
      // Without options in front, what follows is an argument, which is nobody's business.
      throw invalid('INVALID_TASK', 'a task', 'a function, or options and a function', first instanceof Object ? (func ?? first) : first);
    }
    this.options = func === first ? NO_OPTIONS : checkTaskOptions(first);
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
  run(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.start(this.options.timeout, { completed: () => resolve(), failed: (_, error) => reject(error), endedLate: () => {} });
    });
  }

  /**
   * Calls the function. The observer is told how it ends: at once, unless the function returned a promise.
   * @internal
   */
  start(timeout: number | undefined, observer: TaskObserver): void {
    let result: unknown;
    try {
      result = this.#context.runInAsyncScope(call, undefined, this);
      if (!isThenable(result)) return observer.completed(this);
    } catch (error) {
      return observer.failed(this, error);
    }
    this.#awaited = observer;
    if (timeout !== undefined) {
      this.#timer = setTimeout(() => this.giveUp(new BackgroundTasksTimeoutError(this.name, timeout)), timeout);
    }
    // `Promise.resolve` tames a foreign thenable, whose `then` may throw or call back twice.
    Promise.resolve(result).then(
      () => (this.#stopWaiting() ? observer.completed(this) : observer.endedLate(this, 'completed')),
      (error: unknown) => (this.#stopWaiting() ? observer.failed(this, error) : observer.endedLate(this, 'failed', error)),
    );
  }

  /**
   * Stops waiting for the running task, and fires its signal.
   * @internal
   */
  giveUp(error: Error): void {
    const observer = this.#stopWaiting();
    (this.#controller ??= new AbortController()).abort(error);
    observer?.failed(this, error);
  }

  /** The observer, unless the task has ended for it. */
  #stopWaiting(): TaskObserver | undefined {
    const observer = this.#awaited;
    this.#awaited = undefined;
    clearTimeout(this.#timer);
    return observer;
  }
}

/** Told once how a task ended, and, if it was given up, how its function ended after all. */
export interface TaskObserver {
  completed(task: BackgroundTask): void;
  failed(task: BackgroundTask, error: unknown): void;
  endedLate(task: BackgroundTask, how: 'completed' | 'failed', error?: unknown): void;
}

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
