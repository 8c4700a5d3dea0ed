import type { BackgroundTask } from './background-task.js';
import { callTask } from './call-task.js';
import type { CallThrough } from './call-through.js';
import { observed, traced } from './channels.js';
import { callAs } from './current-task.js';
import { BackgroundTasksCancelledError, BackgroundTasksError, BackgroundTasksTimeoutError, taskCalled } from './errors.js';
import { DONE, HeldTask, NO_ARGS } from './held-task.js';
import { NO_OPTIONS } from './options.js';
import { isObject, whatIsLeft } from './result.js';

/** Told once how a task ended, and, if it was given up, how its function ended after all. */
export interface TaskObserver {
  completed(task: Task): void;
  /** Also of one that was cancelled while it ran: its state says so. */
  failed(task: Task, error: unknown): void;
  endedLate(task: Task, how: 'completed' | 'failed', error?: unknown): void;
}

/** What a `BackgroundTask` is. */
export class Task extends HeldTask implements BackgroundTask {
  /**
   * One that is always there: when a full garbage collection finds none, V8 throws the code away that it has made for tasks, and the next ones
   * take twice as long.
   */
  static readonly kept = new Task(DONE, NO_ARGS, NO_OPTIONS);

  /** The one after it in its list. */
  behind: Task | undefined;
  /** Set while the end of the function is awaited. */
  awaitedBy: TaskObserver | undefined;

  cancel(reason = 'no reason was given'): boolean {
    // First of all: what is no text may throw here.
    const why = String(reason);
    if (this.state === 'active') return this.giveUp(new BackgroundTasksCancelledError(this.name, why));
    if (this.state !== 'pending') return false;
    this.asked();
    this.end('cancelled');
    this.owner?.cancelled(this, why);
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

  /** Calls the function. */
  call(): unknown {
    const { func, args } = this;
    return func(...(args as never[]));
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

  /** The same where the task is traced, which needs a promise of its end. */
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
}

/** Whether a task awaits what calls this, of which V8 knows as it does for stacks. Not, if the application's names have been shortened. */
export function awaitedByTask(): boolean {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 100;
  const { stack } = new Error();
  Error.stackTraceLimit = stackTraceLimit;
  return String(stack).includes(`.${Task.prototype.awaitsItsFunction.name} `);
}
