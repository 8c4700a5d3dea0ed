import { setTimeout } from 'node:timers';
import { Logger } from '@nestjs/common';
import type { BackgroundTask } from './background-task.js';
import { OnErrorCall, runAs } from './current-task.js';
import { countedNames, isError, listedNames, messageOf, quoted, stackOf } from './describe.js';
import { discardsObserved, publishDiscard } from './diagnostics.js';
import { RefusedError, taskCalled, tasksCalled } from './errors.js';
import type { Task } from './task.js';

/** The option `onError` of an application. */
export type OnError = (error: unknown, task: BackgroundTask) => unknown;

/** Lets the first lines of each kind pass in a period, and tells at its end how many more there were. */
export class RateLimit {
  readonly #lines: number;
  readonly #periodMs: number;
  readonly #onMore: (kind: string, more: number) => void;
  readonly #counts = new Map<string, number>();

  constructor(lines: number, periodMs: number, onMore: (kind: string, more: number) => void = () => {}) {
    this.#lines = lines;
    this.#periodMs = periodMs;
    this.#onMore = onMore;
  }

  pass(kind: string, write: () => void): void {
    const count = this.#counts.get(kind) ?? 0;
    if (count === 0) setTimeout(() => this.#endPeriod(kind), this.#periodMs).unref();
    this.#counts.set(kind, count + 1);
    if (count < this.#lines) write();
  }

  #endPeriod(kind: string): void {
    const more = (this.#counts.get(kind) ?? 0) - this.#lines;
    this.#counts.delete(kind);
    if (more > 0) this.#onMore(kind, more);
  }
}

/** How many refusals of one kind are logged in a second. */
const REFUSALS_PER_SECOND = 5;

/**
 * The log of an application: it says what becomes of tasks, by name and never with their arguments, and does not throw, whatever the error,
 * the logger or `onError` do. Each line is written in the async context of its task, so that a logger that knows the current request, or
 * trace, knows the right one.
 */
export class TaskLog {
  readonly #logger = new Logger('BackgroundTasks');
  readonly #onError: OnError | undefined;
  readonly #refused = new WeakSet<Error>();
  readonly #refusals = new RateLimit(REFUSALS_PER_SECOND, 1_000, (code, more) => {
    this.#log('error', `Within a second, ${more} more errors with the code ${code} were not logged`);
  });

  constructor(onError: OnError | undefined) {
    this.#onError = onError;
  }

  failed(task: Task, error: unknown): void {
    task.runInScope(() => this.#logFailure(task, error));
  }

  /** Hands the error to `onError`, if there is one; resolves once that has ended. */
  callOnError(task: Task, error: unknown, call = new OnErrorCall(this)): Promise<void> | undefined {
    return this.#onError && task.runInScope(() => runAs(call, () => this.#callOnError(task, error)));
  }

  #logFailure(task: Task, error: unknown): void {
    const name = taskCalled(task.name);
    const message = messageOf(error);
    // This package's own errors name the task themselves.
    this.#log(
      'error',
      message.startsWith(name) ? `${message}${attemptOf(task)}` : `${name} failed${attemptOf(task)}: ${message}`,
      stackOf(error),
    );
  }

  async #callOnError(task: Task, error: unknown): Promise<void> {
    try {
      await this.#onError?.(error, task);
    } catch (cause) {
      this.#log('error', `onError failed for background task ${quoted(task.name)}: ${messageOf(cause)}`, stackOf(cause));
    }
  }

  discarded(task: Task, reason: string): void {
    this.neverStarts(task, reason);
    task.runInScope(() => this.#log('debug', `${taskCalled(task.name)} was discarded: ${reason}`));
  }

  /** A cancelled task has not failed. */
  cancelled(task: Task, error: unknown): void {
    task.runInScope(() => this.#log('debug', messageOf(error)));
  }

  /** Publishes a discard without a line of its own: the failure that caused it is logged. */
  neverStarts(task: Task, reason: string): void {
    if (discardsObserved()) task.runInScope(() => publishDiscard(task, reason));
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

  /** Nest injects no REQUEST where a provider is resolved by hand, without `registerRequestByContextId()`. */
  addedToNoRequest(task: Task): void {
    this.#log(
      'debug',
      `${taskCalled(task.name)} was added to a list of no request, and starts at once. In a request, call ` +
        '`moduleRef.registerRequestByContextId(request, contextId)` before `moduleRef.resolve()`',
    );
  }

  /** The list of the request knows nothing of the attempt that `within()` calls. */
  addedPastWithin(task: Task): void {
    this.#log(
      'warn',
      `${taskCalled(task.name)} was added to the list of its request in a call of \`within()\`, and runs after the response, however that call ` +
        'ends; add it to the list that `within()` passes to its function',
    );
  }

  addedAfterTransaction(task: Task): void {
    this.#log(
      'warn',
      `${taskCalled(task.name)} was added after its transaction was over, and does not depend on it; await the work that adds it inside the transaction`,
    );
  }

  savedWithoutClient(): void {
    this.#log(
      'warn',
      'Tasks were added in `runner.transaction()` without the client of the transaction, and a crash after the COMMIT can lose them; pass it before ' +
        'the work, as in `join(fromPg(client), () => …)`, for the outbox to save them',
    );
  }

  /** For a promise that was asked for, and has not been settled for a while. */
  waitsForItself(promise: string, seconds: number): void {
    this.#log(
      'warn',
      `\`${promise}\` has not been settled for ${seconds} s, while the code that a task waits for is still at work. A handler, or a task, that ` +
        'awaits it for its own tasks waits for itself: return first, and await it elsewhere',
    );
  }

  /** Tasks that a shutdown lost: one line, with the number of tasks of each name. */
  lost(names: ReadonlyMap<string, number>, one: string, many: string, reason: string): void {
    const total = [...names.values()].reduce((sum, count) => sum + count, 0);
    const [first] = names.keys();
    if (first === undefined) return;
    if (total === 1) return this.#log('error', `${taskCalled(first)} ${one}: ${reason}`);
    this.#log('error', `${total} background tasks ${many}: ${reason}: ${countedNames(names)}`);
  }

  /** Tasks that failed with one error: one line, however many they are. */
  failedTogether(tasks: readonly Task[], error: unknown): void {
    const [first] = tasks;
    if (!first) return;
    // Its message names the tasks.
    if (error instanceof RefusedError) first.runInScope(() => this.refused(error));
    else
      first.runInScope(() =>
        this.#log('error', `${tasksCalled(tasks.map(({ name }) => name))} failed: ${messageOf(error)}`, stackOf(error)),
      );
  }

  waitUntilRejected(error: unknown): void {
    this.#log('error', `waitUntil failed, and the platform may not wait for the tasks of a request: ${messageOf(error)}`, stackOf(error));
  }

  /** A task that the engine will never take. */
  setAside(name: string, id: string, error: unknown): void {
    this.#log(
      'error',
      `${taskCalled(name)} (${id}) is set aside in the outbox, as the engine refuses it: ${messageOf(error)}. Delete its row, or clear the reason there ` +
        'to have it handed over again',
    );
  }

  onceWithoutTransaction(name: string): void {
    this.#refusals.pass(name, () =>
      this.#log(
        'error',
        `${taskCalled(name)} has \`once\`, and opened no transaction in which it could be marked as done: it may run again if a worker dies. Open ` +
          'one that the package knows, with transactionalTasks() or runner.transaction(), or leave `once` out',
      ),
    );
  }

  say(line: string): void {
    this.#log('log', line);
  }

  warn(warning: string): void {
    this.#log('warn', warning);
  }

  waiting(tasks: number, names: ReadonlySet<string>, milliseconds: number): void {
    const which = names.size > 0 ? `: ${listedNames(names)}` : '';
    this.#log('log', `Waiting for ${tasks} background task${tasks === 1 ? '' : 's'} to end, for ${milliseconds} ms at most${which}`);
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
    task.runInScope(() => this.#endedLate(task, how, error));
  }

  #endedLate(task: Task, how: 'completed' | 'failed', error: unknown): void {
    if (how === 'completed') this.#log('warn', `${taskCalled(task.name)}${jobOf(task)} completed after it had been given up`);
    else if (stoppedBySignal(task, error)) this.#log('debug', `${taskCalled(task.name)} stopped when its signal fired`);
    else
      this.#log('error', `${taskCalled(task.name)}${jobOf(task)} failed after it had been given up: ${messageOf(error)}`, stackOf(error));
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

/** The number of the attempt, where there are several, and the id of the job. */
function attemptOf({ attempt, attempts, jobId }: Task): string {
  const details: string[] = [];
  // Somebody had the task run again.
  if (attempt > attempts) details.push(`attempt ${attempt}, ${attempt - attempts} more than its option \`attempts\` allows`);
  else if (attempts > 1) details.push(`attempt ${attempt} of ${attempts}`);
  if (jobId !== undefined) details.push(`job ${jobId}`);
  return details.length > 0 ? ` (${details.join(', ')})` : '';
}

function jobOf({ jobId }: Task): string {
  return jobId === undefined ? '' : ` (job ${jobId})`;
}

/** True if the task ended with the reason of its signal. Why the signal fired has been logged already. */
function stoppedBySignal(task: Task, error: unknown): boolean {
  try {
    // `fetch` rejects with the reason itself, Node's own functions with an error that has it for its cause.
    return error === task.signal.reason || (isError(error) && error.cause === task.signal.reason);
  } catch {
    return false;
  }
}
