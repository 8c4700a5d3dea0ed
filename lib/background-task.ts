import { AsyncResource } from 'node:async_hooks';
import { inspect } from 'node:util';
import { observed } from './background-tasks.diagnostics.js';
import { BackgroundTasksError, BackgroundTasksTimeoutError, invalid } from './background-tasks.errors.js';
import { type BackgroundTaskOptions, checkTaskOptions } from './background-tasks.options.js';
import { nameOf } from './describe-error.js';
import { classAndDecorator } from './class-and-decorator.js';
import { NamedCall } from './engine/named-call.js';
import { decorateMethod } from './engine/named-method.decorator.js';
import { type NamedMethod, namedMethodOf } from './engine/named-methods.js';
import type { NamedTaskOptions } from './engine/named-task.options.js';
import { type TaskObserver, call, callTraced } from './task-call.js';

type AnyFunction = (...args: never[]) => unknown;

const NO_OPTIONS: Readonly<BackgroundTaskOptions> = Object.freeze({});

/** What `BackgroundTask` makes. The package itself uses this one, which is quicker. Many may wait: what few need is not on each. */
export class Task {
  readonly func: AnyFunction;
  readonly args: readonly unknown[];
  readonly options: Readonly<BackgroundTaskOptions>;
  /** Set if the function is a `@BackgroundTask()` method. @internal */
  readonly named: NamedCall | undefined;
  /** The one after it in its list. @internal */
  behind: BackgroundTask | undefined;
  /** The async context of the code that made the task. Capturing it turns no async hooks on; entering a store would. */
  readonly #context = new AsyncResource('BackgroundTask');
  #controller: AbortController | undefined;
  /** Set while the end of the function is awaited. */
  #awaited: TaskObserver | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(first: unknown, ...rest: unknown[]) {
    const func = typeof first === 'function' ? first : rest.shift();
    if (typeof func !== 'function') {
      // Without options in front, what follows is an argument, which is nobody's business.
      throw invalid(
        'INVALID_TASK',
        'a task',
        'a function, or options and a function: the function itself, and not what it returns',
        first instanceof Object ? (func ?? first) : first,
      );
    }
    // The constructor type has matched the function with its arguments.
    this.func = func as AnyFunction;
    this.args = rest;
    const method = namedMethodOf(this.func);
    this.named = method && new NamedCall(method);
    const options = func === first ? NO_OPTIONS : checkTaskOptions(first);
    this.options = method ? withDefaultsOf(method, options) : options;
    if (!method && options.flush) throw invalid('INVALID_TASK', 'a task with the option `flush`', 'a @BackgroundTask() method', func);
  }

  /** What logs and errors call the task: the name of a `@BackgroundTask()` method, the option `name`, the function's own name, or `anonymous`. */
  get name(): string {
    return this.named?.method.name ?? this.options.name ?? nameOf(this.func);
  }

  /** Which attempt of an engine this is, from 1. In process there is only one. */
  get attempt(): number {
    return this.named?.job?.attempt ?? 1;
  }

  /** Fires when the task is given up: at its timeout, and at the shutdown deadline. Its reason is the error that says why. */
  get signal(): AbortSignal {
    return (this.#controller ??= new AbortController()).signal;
  }

  /** Runs the task now; rejects with its error, with a `BackgroundTasksTimeoutError`, or, while it runs, with `INVALID_TASK`. */
  run(): Promise<void> {
    if (this.#awaited) {
      return Promise.reject(new BackgroundTasksError('INVALID_TASK', `Background task "${this.name}" runs already: await its first run()`));
    }
    return this.settled(this.options.timeout, () => {});
  }

  /** What `JSON.stringify` makes of the task: nothing of its arguments, which are people's data. */
  toJSON(): { name: string } {
    return { name: this.name };
  }

  /** What `console.log` makes of it. @internal */
  [inspect.custom](): string {
    return `BackgroundTask { name: '${this.name}' }`;
  }

  /** @internal */
  call(): unknown {
    const { func, args, named } = this;
    return named ? named.call(args) : func(...(args as never[]));
  }

  /**
   * Calls the function. Resolves and rejects as it does, or rejects as soon as the task is given up.
   * @internal
   */
  settled(timeout: number | undefined, endedLate: TaskObserver['endedLate']): Promise<void> {
    return new Promise((resolve, reject) =>
      this.start(timeout, { completed: () => resolve(), failed: (_, error) => reject(error), endedLate }),
    );
  }

  /**
   * Calls the function. The observer is told how it ends: at once, unless the function returned a promise.
   * @internal
   */
  start(timeout: number | undefined, observer: TaskObserver): void {
    const isTraced = observed();
    let end: PromiseLike<unknown> | undefined;
    try {
      end = isTraced ? this.within(() => callTraced(this, timeout, observer)) : this.#context.runInAsyncScope(call, undefined, this);
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

  /**
   * Waits for the end of the running function.
   * @internal
   */
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

  /**
   * Calls a function in the async context of the code that made the task.
   * @internal
   */
  within<Result>(func: () => Result): Result {
    return this.#context.runInAsyncScope(func);
  }

  /**
   * Fires the signal, and stops waiting. Returns whether the function is still at work.
   * @internal
   */
  giveUp(error: Error): boolean {
    const observer = this.stopWaiting();
    this.within(() => (this.#controller ??= new AbortController()).abort(error));
    observer?.failed(this, error);
    return observer !== undefined;
  }

  /**
   * The observer, unless the task has ended for it. Not a private method: those cost each of many tasks a field.
   * @internal
   */
  stopWaiting(): TaskObserver | undefined {
    const observer = this.#awaited;
    this.#awaited = undefined;
    if (this.#timer) clearTimeout(this.#timer);
    return observer;
  }
}

function withDefaultsOf({ name, options }: NamedMethod, own: BackgroundTaskOptions): BackgroundTaskOptions {
  if (own.name !== undefined) {
    throw new BackgroundTasksError(
      'INVALID_OPTION',
      `The option \`name\` of addTask() does not go with the @BackgroundTask("${name}") method: it has a name`,
    );
  }
  const { timeout = options.timeout, runOn = options.runOn, flush = options.flush } = own;
  return { timeout, runOn, flush };
}

export interface BackgroundTask extends Task {}

export interface BackgroundTaskConstructor {
  readonly prototype: BackgroundTask;
  new <Args extends unknown[]>(func: (...args: Args) => unknown, ...args: NoInfer<Args>): BackgroundTask;
  new <Args extends unknown[]>(options: BackgroundTaskOptions, func: (...args: Args) => unknown, ...args: NoInfer<Args>): BackgroundTask;
  (name?: string, options?: NamedTaskOptions): MethodDecorator;
}

/**
 * One task: a function and its arguments, as Starlette's `BackgroundTask`.
 *
 * Pass a method in a closure, `() => this.mailer.send(to)`: that a bare `this.mailer.send` has lost its `this` cannot be detected.
 *
 * As a decorator, on a provider's method: `tasks.addTask(this.mail.sendEmail, to)` then calls it on its own instance, in process or, where
 * the module has one, on an engine. The name, `Class.method` by default, is what waiting tasks are found by: keep it when you rename.
 *
 * @throws BackgroundTasksError `INVALID_TASK` without a function, `INVALID_OPTION` for a bad option.
 */
export const BackgroundTask: BackgroundTaskConstructor = classAndDecorator(Task, 'BackgroundTask', decorateMethod);
