import { Logger } from '@nestjs/common';
import type { BackgroundTask } from './background-task.js';
import { discardsObserved, publishDiscard } from './channels.js';
import { countedNames, isError, messageOf, quoted, stackOf } from './describe-error.js';
import { RefusedError, taskCalled, tasksCalled } from './errors.js';
import { Floodgate } from './floodgate.js';
import type { Task } from './task.js';

/** What an application wants called with the error of each task that failed. */
export type OnError = (error: unknown, task: BackgroundTask) => unknown;

/**
 * Says what becomes of tasks: by name, never with their arguments, and without throwing whatever the error, the logger or `onError` do. It
 * does so in the async context of the task, so that a logger that knows the current request, or trace, knows the right one.
 */
export class Reporter {
  readonly #logger = new Logger('BackgroundTasks');
  readonly #onError: OnError | undefined;
  readonly #refused = new WeakSet<Error>();
  readonly #refusals = new Floodgate((code, more) => {
    this.#log('error', `Within a second, ${more} more errors with the code ${code} were not logged`);
  });

  constructor(onError: OnError | undefined) {
    this.#onError = onError;
  }

  /** Logs the error and hands it to `onError`; resolves once that is through. */
  failed(task: Task, error: unknown): Promise<void> | undefined {
    task.within(() => this.#logFailure(task, error));
    return this.tell(task, error);
  }

  /** Hands the error to `onError`, if there is one; resolves once that is through. */
  tell(task: Task, error: unknown): Promise<void> | undefined {
    return this.#onError && task.within(() => this.#tell(task, error));
  }

  #logFailure(task: Task, error: unknown): void {
    const name = taskCalled(task.name);
    const message = messageOf(error);
    // This package's own errors name the task themselves.
    this.#log('error', message.startsWith(name) ? message : `${name} failed${attemptOf(task)}: ${message}`, stackOf(error));
  }

  async #tell(task: Task, error: unknown): Promise<void> {
    try {
      await this.#onError?.(error, task);
    } catch (cause) {
      this.#log('error', `onError failed for background task ${quoted(task.name)}: ${messageOf(cause)}`, stackOf(cause));
    }
  }

  discarded(task: Task, reason: string): void {
    this.neverStarts(task, reason);
    task.within(() => this.#log('debug', `${taskCalled(task.name)} was discarded: ${reason}`));
  }

  /** Somebody wanted it so: it is no failure. */
  cancelled(task: Task, error: unknown): void {
    task.within(() => this.#log('debug', messageOf(error)));
  }

  /** Tells the channel of discards alone: of what is logged as a failure. */
  neverStarts(task: Task, reason: string): void {
    if (discardsObserved()) task.within(() => publishDiscard(task, reason));
  }

  addedLate(task: Task, isFollowing: boolean): void {
    // Code that follows a request through its async context, such as a listener of its events, may well outlive it.
    if (isFollowing) return this.#log('debug', `${taskCalled(task.name)} was added after its request was over, and starts at once`);
    this.#log(
      'warn',
      `${taskCalled(task.name)} was added after its request was over; await the work that adds it, ` +
        'and do not keep the list of a request in a singleton or a durable provider',
    );
  }

  /** Tasks that a shutdown has cost, by how many have which name. */
  lost(names: ReadonlyMap<string, number>, one: string, many: string, reason: string): void {
    const total = [...names.values()].reduce((sum, count) => sum + count, 0);
    const [first] = names.keys();
    if (first === undefined) return;
    if (total === 1) return this.#log('error', `${taskCalled(first)} ${one}: ${reason}`);
    this.#log('error', `${total} background tasks ${many}: ${reason}: ${countedNames(names)}`);
  }

  /** Tasks that one error has cost, in one line, however many they are. */
  failedTogether(tasks: readonly Task[], error: unknown): void {
    const [first] = tasks;
    if (!first) return;
    // Its message names the tasks itself.
    if (error instanceof RefusedError) first.within(() => this.refused(error));
    else
      first.within(() => this.#log('error', `${tasksCalled(tasks.map(({ name }) => name))} failed: ${messageOf(error)}`, stackOf(error)));
  }

  waitUntilRejected(error: unknown): void {
    this.#log('error', `waitUntil failed, and the platform may not wait for the tasks of a request: ${messageOf(error)}`, stackOf(error));
  }

  warn(warning: string): void {
    this.#log('warn', warning);
  }

  waiting(tasks: number, milliseconds: number): void {
    this.#log('log', `Waiting for ${tasks} background task${tasks === 1 ? '' : 's'} to end, for ${milliseconds} ms at most`);
  }

  closedByTask(): void {
    this.#log(
      'warn',
      'A background task awaits the end of this shutdown, which does not wait for it in turn; close the application without `await` in a task',
    );
  }

  /** Logs an error once: it may come by several handlers, such as the resolvers of one GraphQL field. */
  refused(error: Error): void {
    if (this.#refused.has(error)) return;
    this.#refused.add(error);
    if (error instanceof RefusedError) this.#refusals.pass(error.code, () => this.#log('error', error.message));
    else this.#log('error', error.message);
  }

  endedLate(task: Task, how: 'completed' | 'failed', error: unknown): void {
    task.within(() => this.#endedLate(task, how, error));
  }

  #endedLate(task: Task, how: 'completed' | 'failed', error: unknown): void {
    if (how === 'completed') this.#log('warn', `${taskCalled(task.name)} completed after it had been given up`);
    else if (obeyed(task, error)) this.#log('debug', `${taskCalled(task.name)} stopped when its signal fired`);
    else this.#log('error', `${taskCalled(task.name)} failed after it had been given up: ${messageOf(error)}`, stackOf(error));
  }

  #log(level: 'error' | 'warn' | 'log' | 'debug', message: string, stack?: string): void {
    try {
      if (stack === undefined) this.#logger[level](message);
      else this.#logger[level](message, stack);
    } catch {
      // A logger that throws must not take the task's siblings, or the process, with it.
    }
  }
}

/** Which attempt it was of how many, where there may be several. */
function attemptOf({ attempt, attempts }: Task): string {
  return attempts > 1 ? ` (attempt ${attempt} of ${attempts})` : '';
}

/** Whether the error is what a task ends with that heeds its signal. Why the signal fired has been logged already. */
function obeyed(task: Task, error: unknown): boolean {
  try {
    // `fetch` rejects with the reason itself, Node's own functions with an error that has it for its cause.
    return error === task.signal.reason || (isError(error) && error.cause === task.signal.reason);
  } catch {
    return false;
  }
}
