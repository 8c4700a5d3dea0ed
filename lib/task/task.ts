import { AsyncResource } from 'node:async_hooks';
import { inspect } from 'node:util';
import type { AnyFunction, BackgroundTask } from './background-task.js';
import type { CallThrough } from './call-through.js';
import { observed, traced } from './channels.js';
import { callAs } from './current-task.js';
import { nameOf } from './describe-error.js';
import { BackgroundTasksError, BackgroundTasksTimeoutError } from './errors.js';
import type { TaskOptions } from './options.js';

/** Told once how a task ended, and, if it was given up, how its function ended after all. */
export interface TaskObserver {
  completed(task: Task): void;
  failed(task: Task, error: unknown): void;
  endedLate(task: Task, how: 'completed' | 'failed', error?: unknown): void;
}

/** What a `BackgroundTask` is. Many may wait: what few need is not on each, and no method is private, as those cost each task a field. */
export class Task implements BackgroundTask {
  readonly func: AnyFunction;
  readonly args: readonly unknown[];
  readonly options: Readonly<TaskOptions>;
  /** The one after it in its list. */
  behind: Task | undefined;
  /** The async context of the code that made the task. Capturing it turns no async hooks on; entering a store would. */
  readonly #context = new AsyncResource('BackgroundTask');
  #controller: AbortController | undefined;
  /** Set while the end of the function is awaited. */
  #awaited: TaskObserver | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(func: AnyFunction, args: readonly unknown[], options: Readonly<TaskOptions>) {
    this.func = func;
    this.args = args;
    this.options = options;
  }

  get name(): string {
    return this.options.name ?? nameOf(this.func);
  }

  get attempt(): number {
    return 1;
  }

  /** How many attempts there are at most. */
  get attempts(): number {
    return 1;
  }

  get carried(): unknown {
    return undefined;
  }

  get signal(): AbortSignal {
    return (this.#controller ??= new AbortController()).signal;
  }

  run(): Promise<void> {
    if (this.#awaited) {
      return Promise.reject(new BackgroundTasksError('INVALID_TASK', `Background task "${this.name}" runs already: await its first run()`));
    }
    return this.settled(this.options.timeout, () => {});
  }

  toJSON(): { name: string } {
    return { name: this.name };
  }

  /** What `console.log` makes of it. */
  [inspect.custom](): string {
    return `BackgroundTask { name: '${this.name}' }`;
  }

  /** Calls the function. */
  call(): unknown {
    const { func, args } = this;
    return func(...(args as never[]));
  }

  /** Calls the function. Resolves and rejects as it does, or rejects as soon as the task is given up. */
  settled(timeout: number | undefined, endedLate: TaskObserver['endedLate'], through?: CallThrough): Promise<void> {
    return new Promise((resolve, reject) =>
      this.start(timeout, { completed: () => resolve(), failed: (_, error) => reject(error), endedLate }, through),
    );
  }

  /** Calls the function, through something if that is given. The observer is told how it ends: at once, unless there is a promise to wait for. */
  start(timeout: number | undefined, observer: TaskObserver, through?: CallThrough): void {
    const isTraced = observed();
    let end: PromiseLike<unknown> | undefined;
    try {
      end = isTraced
        ? this.within(() => this.traced(timeout, observer, through))
        : this.#context.runInAsyncScope(call, undefined, this, through);
    } catch (error) {
      return observer.failed(this, error);
    }
    if (!end) return observer.completed(this);
    if (!isTraced) return this.awaits(end, timeout, observer);
    end.then(
      () => observer.completed(this),
      (error: unknown) => observer.failed(this, error),
    );
  }

  /** Calls the function for who traces it, and needs a promise of its end. */
  traced(timeout: number | undefined, observer: TaskObserver, through: CallThrough | undefined): Promise<void> | undefined {
    return traced(this, () => {
      const end = call(this, through);
      if (!end) return undefined;
      return new Promise((resolve, reject) =>
        this.awaits(end, timeout, {
          completed: () => resolve(),
          failed: (_, error) => reject(error),
          endedLate: (...how) => observer.endedLate(...how),
        }),
      );
    });
  }

  /** Waits for the end of the running function. */
  awaits(end: PromiseLike<unknown>, timeout: number | undefined, observer: TaskObserver): void {
    this.#awaited = observer;
    if (timeout !== undefined) {
      this.#timer = setTimeout(() => this.giveUp(new BackgroundTasksTimeoutError(this.name, timeout)), timeout);
    }
    // `Promise.resolve` tames a foreign thenable, whose `then` may throw or call back twice.
    Promise.resolve(end).then(
      () => (this.stopWaiting() ? observer.completed(this) : observer.endedLate(this, 'completed')),
      (error: unknown) => (this.stopWaiting() ? observer.failed(this, error) : observer.endedLate(this, 'failed', error)),
    );
  }

  /** Calls a function in the async context of the code that made the task. */
  within<Result>(func: () => Result): Result {
    return this.#context.runInAsyncScope(func);
  }

  /** Fires the signal, and stops waiting. Returns whether the function is still at work. */
  giveUp(error: Error): boolean {
    const observer = this.stopWaiting();
    this.within(() => (this.#controller ??= new AbortController()).abort(error));
    observer?.failed(this, error);
    return observer !== undefined;
  }

  /** The observer, unless the task has ended for it. */
  stopWaiting(): TaskObserver | undefined {
    const observer = this.#awaited;
    this.#awaited = undefined;
    if (this.#timer) clearTimeout(this.#timer);
    return observer;
  }
}

const callFunction = (task: Task): unknown => task.call();

/** Calls the function of a task, and returns what has to be awaited. */
function call(task: Task, through: CallThrough | undefined): PromiseLike<unknown> | undefined {
  return through ? through(task, () => callPlain(task)) : callPlain(task);
}

function callPlain(task: Task): PromiseLike<unknown> | undefined {
  const result = callAs(task, callFunction);
  return isThenable(result) ? result : undefined;
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    (typeof value === 'object' || typeof value === 'function') && value !== null && 'then' in value && typeof value.then === 'function'
  );
}
