import { AsyncResource } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import type { AnyFunction, BackgroundTask, TaskEnd } from './background-task.js';
import type { CallThrough } from './call-through.js';
import { observed, traced } from './channels.js';
import { callAs } from './current-task.js';
import { nameOf } from './describe-error.js';
import { BackgroundTasksCancelledError, BackgroundTasksError, BackgroundTasksTimeoutError, taskCalled } from './errors.js';
import { NO_OPTIONS, type TaskOptions } from './options.js';
import { isObject, whatIsLeft } from './result.js';

/** Told once how a task ended, and, if it was given up, how its function ended after all. */
export interface TaskObserver {
  completed(task: Task): void;
  /** Also of one that was cancelled while it ran: its state says so. */
  failed(task: Task, error: unknown): void;
  endedLate(task: Task, how: 'completed' | 'failed', error?: unknown): void;
}

/** The list of an application that a task is in. */
export interface TaskOwner {
  /** The tasks that have not ended and were asked for their ids, by these. */
  readonly known: Map<string, Task>;
  /** Lets go of a task that was cancelled before it started. */
  cancelled(task: Task, reason: string): void;
  /** Told of each task that has ended, and been reported, so that nothing is left to be done. */
  over(): void;
}

/** `'delivering'`: it is on its way to an engine. */
type TaskState = 'pending' | 'active' | 'delivering' | TaskEnd;

/** What few tasks need. */
interface Details {
  id?: string;
  ended?: Promise<TaskEnd>;
  resolveEnded?: (end: TaskEnd) => void;
  controller?: AbortController | undefined;
  timer?: NodeJS.Timeout;
  givenUp?: Error | undefined;
}

/** In the place of a function that has done its work. */
const DONE = (): void => {};
const NO_ARGS: readonly unknown[] = Object.freeze([]);

/**
 * What a `BackgroundTask` is. Many may wait: what few need is not on each, no method is private, as those cost each task a field, and the
 * async context of the code that makes a task is in the task itself. Capturing it turns no async hooks on; entering a store would.
 */
export class Task extends AsyncResource implements BackgroundTask {
  /**
   * One that is always there: when a full garbage collection finds none, V8 throws the code away that it has made for tasks, and the next ones
   * take twice as long.
   */
  static readonly kept = new Task(DONE, NO_ARGS, NO_OPTIONS);

  /** The function, or, once it has been let go of, its name. */
  what: AnyFunction | string;
  args: readonly unknown[];
  readonly options: Readonly<TaskOptions>;
  state: TaskState = 'pending';
  /** None, if the task is made by hand. */
  owner: TaskOwner | undefined;
  /** The one after it in its list. */
  behind: Task | undefined;
  /** Set while the end of the function is awaited. */
  awaitedBy: TaskObserver | undefined;
  details: Details | undefined;

  constructor(func: AnyFunction, args: readonly unknown[], options: Readonly<TaskOptions>) {
    super('BackgroundTask');
    this.what = func;
    this.args = args;
    this.options = options;
  }

  get func(): AnyFunction {
    return typeof this.what === 'string' ? DONE : this.what;
  }

  get name(): string {
    return this.options.name ?? (typeof this.what === 'string' ? this.what : nameOf(this.what));
  }

  get id(): string {
    const details = this.asked();
    if (details.id === undefined) {
      details.id = this.makeId();
      if (!this.hasEnded) this.owner?.known.set(details.id, this);
    }
    return details.id;
  }

  /** Has the id outlive what it is made of. */
  keepId(): void {
    this.asked().id ??= this.makeId();
  }

  makeId(): string {
    return randomUUID();
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
    const details = (this.details ??= {});
    if (!details.controller) {
      details.controller = new AbortController();
      if (details.givenUp) details.controller.abort(details.givenUp);
    }
    return details.controller.signal;
  }

  get ended(): Promise<TaskEnd> {
    const details = this.asked();
    return (details.ended ??= new Promise((resolve) => {
      if (isEnd(this.state)) resolve(this.state);
      else details.resolveEnded = resolve;
    }));
  }

  get hasEnded(): boolean {
    return isEnd(this.state);
  }

  cancel(reason = 'no reason was given'): boolean {
    if (this.state === 'active') return this.giveUp(new BackgroundTasksCancelledError(this.name, String(reason)));
    if (this.state !== 'pending') return false;
    this.end('cancelled');
    this.owner?.cancelled(this, String(reason));
    return true;
  }

  async run(): Promise<void> {
    if (this.owner) {
      throw new BackgroundTasksError(
        'LIST_OF_A_REQUEST',
        `${taskCalled(this.name)} runs by itself once the response is out; \`run()\` is for a task made by hand`,
      );
    }
    if (this.state === 'active' || this.state === 'cancelled') {
      const why = this.state === 'active' ? 'runs already: await its first run()' : 'was cancelled: make another one';
      throw new BackgroundTasksError('INVALID_TASK', `${taskCalled(this.name)} ${why}`);
    }
    await this.settled(this.options.timeout, () => {});
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

  /** Calls a function in the async context of the code that made the task. */
  within<Result>(func: () => Result): Result {
    return this.runInAsyncScope(func);
  }

  /** Runs the task. Resolves and rejects as its function does, or rejects as soon as the task is given up. */
  settled(timeout: number | undefined, endedLate: TaskObserver['endedLate'], through?: CallThrough): Promise<void> {
    return new Promise((resolve, reject) =>
      this.start(timeout, { completed: () => resolve(), failed: (_, error) => reject(error), endedLate }, through),
    );
  }

  /** Runs the task, through something if that is given. The observer is told how it ends: at once, unless there is something to wait for. */
  start(timeout: number | undefined, observer: TaskObserver, through?: CallThrough): void {
    this.state = 'active';
    // By hand, a task may be run again.
    if (this.details?.givenUp) this.details.givenUp = this.details.controller = undefined;
    if (observed()) return this.startTraced(timeout, observer, through);
    let end: PromiseLike<unknown> | undefined;
    try {
      end = this.runInAsyncScope(callTask, undefined, this, through);
    } catch (error) {
      return this.failed(error, observer);
    }
    if (end) void this.awaitsItsFunction(end, timeout, observer);
    else this.completed(observer);
  }

  /** The same, for who traces it, and needs a promise of its end. */
  startTraced(timeout: number | undefined, observer: TaskObserver, through: CallThrough | undefined): void {
    let end: Promise<void> | undefined;
    try {
      end = this.within(() => traced(this, () => this.callTraced(timeout, observer, through)));
    } catch (error) {
      return this.failed(error, observer);
    }
    if (!end) return this.completed(observer);
    end.then(
      () => observer.completed(this),
      (error: unknown) => observer.failed(this, error),
    );
  }

  callTraced(timeout: number | undefined, observer: TaskObserver, through: CallThrough | undefined): Promise<void> | undefined {
    const end = callTask(this, through);
    if (!end) return undefined;
    return new Promise((resolve, reject) => {
      const endedLate: TaskObserver['endedLate'] = (...how) => observer.endedLate(...how);
      void this.awaitsItsFunction(end, timeout, { completed: () => resolve(), failed: (_, error) => reject(error), endedLate });
    });
  }

  /** Waits for the end of the running function. By `await` alone: the methods of a foreign promise may throw, or call back twice. */
  async awaitsItsFunction(end: PromiseLike<unknown>, timeout: number | undefined, observer: TaskObserver): Promise<void> {
    const { details } = this;
    if (details?.givenUp) observer.failed(this, details.givenUp);
    else {
      this.awaitedBy = observer;
      if (timeout !== undefined) {
        (this.details ??= {}).timer = setTimeout(() => this.giveUp(new BackgroundTasksTimeoutError(this.name, timeout)), timeout);
      }
    }
    let failure: { readonly error: unknown } | undefined;
    try {
      const value = await end;
      if (isObject(value)) await this.within(() => callAs(this, () => whatIsLeft(this, value)));
    } catch (error) {
      failure = { error };
    }
    if (this.awaitedBy !== observer) return observer.endedLate(this, failure ? 'failed' : 'completed', failure?.error);
    this.stopWaiting();
    if (failure) this.failed(failure.error, observer);
    else this.completed(observer);
  }

  stopWaiting(): void {
    this.awaitedBy = undefined;
    clearTimeout(this.details?.timer);
  }

  completed(observer: TaskObserver): void {
    if (this.details?.givenUp) return observer.failed(this, this.details.givenUp);
    this.end('completed');
    observer.completed(this);
  }

  failed(error: unknown, observer: TaskObserver): void {
    if (this.details?.givenUp) {
      observer.failed(this, this.details.givenUp);
      return observer.endedLate(this, 'failed', error);
    }
    this.end('failed');
    observer.failed(this, error);
  }

  /** Fires the signal of a running task, and stops waiting. Returns whether it ran. */
  giveUp(error: Error): boolean {
    if (this.state !== 'active') return false;
    this.end(error instanceof BackgroundTasksCancelledError ? 'cancelled' : 'failed');
    const details = (this.details ??= {});
    details.givenUp = error;
    const { controller } = details;
    if (controller) this.within(() => controller.abort(error));
    // None, while the function has not even returned.
    const observer = this.awaitedBy;
    this.stopWaiting();
    observer?.failed(this, error);
    return true;
  }

  /** Says how the task ended. */
  end(how: TaskEnd): void {
    this.state = how;
    const { details } = this;
    if (!details) return;
    if (details.id !== undefined) this.owner?.known.delete(details.id);
    details.resolveEnded?.(how);
  }

  /** Lets go, when nobody will run or report the task any more, of what belongs to its request: the task may be kept. */
  release(): void {
    this.what = this.name;
    this.args = NO_ARGS;
    if (this.details) forgetContext(this);
    this.owner?.over();
  }

  /** What few tasks need, for who holds on to this one. */
  asked(): Details {
    if (!this.details) {
      this.details = {};
      if (typeof this.what === 'string') forgetContext(this);
    }
    return this.details;
  }
}

/** Whether a task awaits what calls this, of which V8 knows as it does for stacks. Not, if the application's names have been shortened. */
export function awaitedByTask(): boolean {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 100;
  const { stack } = new Error();
  Error.stackTraceLimit = stackTraceLimit;
  return String(stack).includes(`.${Task.prototype.awaitsItsFunction.name} `);
}

function isEnd(state: TaskState): state is TaskEnd {
  return state !== 'pending' && state !== 'active' && state !== 'delivering';
}

/** Calls the function of a task, through something if that is given, and returns what has to be awaited. */
function callTask(task: Task, through?: CallThrough): PromiseLike<unknown> | undefined {
  return through ? through(task, () => callToItsEnd(task)) : callAs(task, callFunction);
}

/** The same for what waits for the function itself, and not for a promise of something that is still to be done. */
function callToItsEnd(task: Task): PromiseLike<unknown> | undefined {
  const end = callAs(task, callFunction);
  return end && wholeEnd(task, end);
}

async function wholeEnd(task: Task, end: PromiseLike<unknown>): Promise<void> {
  const value = await end;
  // In the context that `around` has set.
  if (isObject(value)) await callAs(task, () => whatIsLeft(task, value));
}

function callFunction(task: Task): PromiseLike<unknown> | undefined {
  const result = task.call();
  return isObject(result) ? whatIsLeft(task, result) : undefined;
}

/** Node keeps the stores of an async context in properties of its resource, beside two numbers. It takes its time to find them. */
function forgetContext(task: Task): void {
  for (const key of Object.getOwnPropertySymbols(task)) {
    if (typeof Reflect.get(task, key) !== 'number') Reflect.set(task, key, undefined);
  }
}
