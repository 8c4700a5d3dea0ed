import { AsyncResource } from 'node:async_hooks';
import { observed, traced } from './background-tasks.diagnostics.js';
import type { EngineEntry, EngineJob } from './background-tasks.engine.js';
import { BackgroundTasksError, BackgroundTasksTimeoutError, invalid } from './background-tasks.errors.js';
import { type BackgroundTaskOptions, checkTaskOptions } from './background-tasks.options.js';
import { classAndDecorator } from './class-and-decorator.js';
import { type NamedMethod, declareNamedMethod, namedMethodOf } from './engine/named-methods.js';
import { type NamedTaskOptions, checkNamedTaskOptions } from './engine/named-task.options.js';

let running: BackgroundTask | undefined;

/**
 * The task that runs, from its call up to its first `await`; `undefined` elsewhere. Take what you need first thing:
 * `const signal = currentTask()?.signal`.
 */
export function currentTask(): BackgroundTask | undefined {
  return running;
}

const NO_OPTIONS: Readonly<BackgroundTaskOptions> = Object.freeze({});

/** What `BackgroundTask` makes. The package itself uses this one, which is quicker. */
export class Task {
  /** What logs and errors call the task: the name of a `@BackgroundTask()` method, the option `name`, the function's own name, or `anonymous`. */
  readonly name: string;
  readonly func: AnyFunction;
  readonly args: readonly unknown[];
  readonly options: Readonly<BackgroundTaskOptions>;
  /** The one after it in its list. @internal */
  behind: BackgroundTask | undefined;

  /** The async context of the code that made the task. Capturing it turns no async hooks on; entering a store would. */
  readonly #context = new AsyncResource('BackgroundTask');
  /** The `@BackgroundTask()` method that the function is. @internal */
  readonly method: NamedMethod | undefined;
  /** What goes to the engine in the place of this task. @internal */
  entry: EngineEntry | undefined;
  #host: object | undefined;
  /** What the engine handed out for this task to do, in a worker. @internal */
  job: EngineJob | undefined;
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
    // The constructor type has matched the function with its arguments.
    this.func = func as AnyFunction;
    this.args = rest;
    this.method = namedMethodOf(this.func);
    this.options = func === first ? NO_OPTIONS : checkTaskOptions(first);
    if (this.method) this.options = withDefaultsOf(this.method, this.options);
    else if (this.options.flush) throw invalid('INVALID_TASK', 'a task with the option `flush`', 'a @BackgroundTask() method', func);
    this.name = this.method?.name ?? this.options.name ?? (func.name || 'anonymous');
  }

  /** Which attempt of an engine this is, from 1. In process there is only one. */
  get attempt(): number {
    return this.job?.attempt ?? 1;
  }

  /** Fires when the task is given up: at its timeout, and at the shutdown deadline. Its reason is the error that says why. */
  get signal(): AbortSignal {
    return (this.#controller ??= new AbortController()).signal;
  }

  /**
   * Has the method run on this provider.
   * @internal
   */
  hostedBy(host: object): void {
    this.#host = host;
  }

  /** @internal */
  call(): unknown {
    const { func } = this;
    const args = this.args as never[];
    if (!this.method) return func(...args);
    if (this.#host) return (Reflect.get(this.#host, this.method.key) as AnyFunction).apply(this.#host, args);
    throw new BackgroundTasksError(
      'INVALID_TASK',
      `Background task "${this.name}" is a @BackgroundTask() method, and a list made by hand does not know its provider: check what \`tasks\` holds, and call the method itself`,
    );
  }

  /** Runs the task now; rejects with its error, or with a `BackgroundTasksTimeoutError`. */
  run(): Promise<void> {
    return this.settled(this.options.timeout, () => {});
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
      end = isTraced ? this.#traced(timeout, observer) : this.#context.runInAsyncScope(call, undefined, this);
    } catch (error) {
      return observer.failed(this, error);
    }
    if (!end) return observer.completed(this);
    if (!isTraced) return this.#await(end, timeout, observer);
    end.then(
      () => observer.completed(this),
      (error: unknown) => observer.failed(this, error),
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
   * Stops waiting for the running task, and fires its signal.
   * @internal
   */
  giveUp(error: Error): void {
    const observer = this.#stopWaiting();
    (this.#controller ??= new AbortController()).abort(error);
    observer?.failed(this, error);
  }

  /** Calls the function for who traces it, and needs a promise of its end. */
  #traced(timeout: number | undefined, observer: TaskObserver): Promise<void> | undefined {
    const promised = (): Promise<void> | undefined => {
      const end = call(this);
      if (!end) return undefined;
      return new Promise((resolve, reject) =>
        this.#await(end, timeout, {
          completed: () => resolve(),
          failed: (_, error) => reject(error),
          endedLate: (...how) => observer.endedLate(...how),
        }),
      );
    };
    return this.within(() => traced(this, promised));
  }

  #await(end: PromiseLike<unknown>, timeout: number | undefined, observer: TaskObserver): void {
    this.#awaited = observer;
    if (timeout !== undefined) {
      this.#timer = setTimeout(() => this.giveUp(new BackgroundTasksTimeoutError(this.name, timeout)), timeout);
    }
    // `Promise.resolve` tames a foreign thenable, whose `then` may throw or call back twice.
    Promise.resolve(end).then(
      () => (this.#stopWaiting() ? observer.completed(this) : observer.endedLate(this, 'completed')),
      (error: unknown) => (this.#stopWaiting() ? observer.failed(this, error) : observer.endedLate(this, 'failed', error)),
    );
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

/** Calls the function, and returns what has to be awaited. */
function call(task: Task): PromiseLike<unknown> | undefined {
  const outer = running;
  running = task;
  try {
    const result = task.call();
    return isThenable(result) ? result : undefined;
  } finally {
    running = outer;
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

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function';
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

function decorateMethod(name?: string, options: NamedTaskOptions = {}): MethodDecorator {
  if (name !== undefined && (typeof name !== 'string' || name === '')) {
    throw invalid('INVALID_OPTION', 'the name of @BackgroundTask()', 'a non-empty string', name);
  }
  const checked = checkNamedTaskOptions(options);
  return (prototype, key) => {
    if (typeof prototype === 'function')
      throw invalid('INVALID_TASK', `@BackgroundTask() ${String(key)}`, 'a method of an instance', prototype);
    declareNamedMethod({ name: name ?? `${prototype.constructor.name}.${String(key)}`, options: checked, prototype, key });
  };
}
