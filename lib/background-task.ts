import { AsyncResource } from 'node:async_hooks';
import { observed, traced } from './background-tasks.diagnostics.js';
import type { EngineEntry } from './background-tasks.engine.js';
import { BackgroundTasksError, BackgroundTasksTimeoutError, invalid } from './background-tasks.errors.js';
import { type BackgroundTaskOptions, checkTaskOptions } from './background-tasks.options.js';
import { classAndDecorator } from './class-and-decorator.js';
import { type NamedMethod, declareNamedMethod, namedMethodOf } from './named-methods.js';
import { type NamedTaskOptions, checkNamedTaskOptions } from './named-task.options.js';

let running: BackgroundTask | undefined;

/**
 * The task that runs, from its call up to its first `await`; `undefined` elsewhere. Take what you need first thing:
 * `const signal = currentTask()?.signal`.
 */
export function currentTask(): BackgroundTask | undefined {
  return running;
}

/** What `BackgroundTask` makes. The package itself uses this one, which is quicker. */
export class Task {
  /** What logs and errors call the task: the name of a `@BackgroundTask()` method, the option `name`, the function's own name, or `anonymous`. */
  readonly name: string;
  readonly func: AnyFunction;
  readonly args: readonly unknown[];
  readonly options: Readonly<BackgroundTaskOptions>;

  /** The async context of the code that made the task. Capturing it turns no async hooks on; entering a store would. */
  readonly #context = new AsyncResource('BackgroundTask');
  /** The `@BackgroundTask()` method that the function is. @internal */
  readonly method: NamedMethod | undefined;
  /** What goes to the engine in the place of this task. @internal */
  entry: EngineEntry | undefined;
  #host: object | undefined;
  #attempt = 1;
  #controller: AbortController | undefined;
  #stopWaiting: ((error: Error) => void) | undefined;

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
    this.options = func === first ? {} : checkTaskOptions(first);
    if (this.method) this.options = withDefaultsOf(this.method, this.options);
    else if (this.options.flush) throw invalid('INVALID_TASK', 'a task with the option `flush`', 'a @BackgroundTask() method', func);
    this.name = this.method?.name ?? this.options.name ?? (func.name || 'anonymous');
  }

  /** Which attempt of an engine this is, from 1. In process there is only one. */
  get attempt(): number {
    return this.#attempt;
  }

  /** Fires when the task is given up: at its timeout, and at the shutdown deadline. Its reason is the error that says why. */
  get signal(): AbortSignal {
    return (this.#controller ??= new AbortController()).signal;
  }

  /**
   * Has the method run on this provider.
   * @internal
   */
  hostedBy(host: object, attempt = 1): void {
    this.#host = host;
    this.#attempt = attempt;
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
    return task.call();
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
