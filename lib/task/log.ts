import { setTimeout } from 'node:timers';
import { Logger } from '@nestjs/common';
import { loggerTakesFields } from '../nest-internals/modules.js';
import type { BackgroundTask } from './background-task.js';
import { OnErrorCall, runAs } from './current-task.js';
import { countedNames, headlineOf, isError, listedNames, messageOf, quoted, shownError, stackOf } from './describe.js';
import { hasDiscardSubscribers, publishDiscard } from './diagnostics.js';
import { RefusedError, taskCalled, tasksCalled } from './errors.js';
import type { Task } from './task.js';

/** The option `onError` of an application. */
export type OnError = (error: unknown, task: BackgroundTask) => unknown;

/** Writes the first lines of each kind in a period, and reports at its end how many more there were. */
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

/** The task and the error that a log line is about. They are passed as fields if the logger accepts fields. */
interface LineDetails {
  readonly task?: { readonly name: string; readonly id: string } | undefined;
  readonly error?: unknown;
  /** True if the stack adds nothing to the line. */
  readonly hidesStack?: boolean;
}

/** The maximum number of refusals of one kind that are logged in a second. */
const REFUSALS_PER_SECOND = 5;

/** Time between two lines about a task that does not use its option `once`, in ms. */
const ONCE_WARNINGS_MS = 10_000;

/**
 * The log of an application. It names tasks, but never logs their arguments, and it never throws, whatever the error, the logger or
 * `onError` do. Each line is written in the async context of its task, so that a logger finds the right request or trace.
 */
export class TaskLog {
  readonly #logger = new Logger('BackgroundTasks');
  readonly #onError: OnError | undefined;
  readonly #refused = new WeakSet<Error>();
  readonly #refusals = new RateLimit(REFUSALS_PER_SECOND, 1_000, (code, more) => {
    this.#log('error', `Within a second, ${more} more errors with the code ${code} were not logged`);
  });

  readonly #onceWarnings = new RateLimit(1, ONCE_WARNINGS_MS);

  constructor(onError: OnError | undefined) {
    this.#onError = onError;
  }

  failed(task: Task, error: unknown): void {
    task.runInScope(() => this.#logFailure(task, error));
  }

  /** Calls `onError`, if there is one. Resolves once it has ended. */
  callOnError(
    task: Task,
    error: unknown,
    call = new OnErrorCall(this),
    around: (report: () => Promise<void>) => PromiseLike<unknown> | undefined = (report) => report(),
  ): PromiseLike<unknown> | undefined {
    return this.#onError && task.runInScope(() => around(() => runAs(call, () => this.#callOnError(task, error))));
  }

  #logFailure(task: Task, error: unknown): void {
    const name = taskCalled(task.name);
    const message = headlineOf(error);
    // The errors of this package already name the task.
    this.#log('error', message.startsWith(name) ? `${message}${attemptOf(task)}` : `${name} failed${attemptOf(task)}: ${message}`, {
      task,
      error,
    });
  }

  async #callOnError(task: Task, error: unknown): Promise<void> {
    try {
      await this.#onError?.(error, task);
    } catch (cause) {
      this.#log('error', `onError failed for background task ${quoted(task.name)}: ${headlineOf(cause)}`, { task, error: cause });
    }
  }

  discarded(task: Task, reason: string): void {
    this.neverStarts(task, reason);
    task.runInScope(() => this.#log('debug', `${taskCalled(task.name)} was discarded: ${reason}`, { task }));
  }

  /** Logs a cancelled task, which has not failed. */
  cancelled(task: Task, error: unknown): void {
    task.runInScope(() => this.#log('debug', messageOf(error), { task }));
  }

  /** Publishes a discard without its own log line, as the failure that caused it is logged. */
  neverStarts(task: Task, reason: string): void {
    if (hasDiscardSubscribers()) task.runInScope(() => publishDiscard(task, reason));
  }

  addedLate(task: Task, isFollowing: boolean): void {
    // Code that follows a request through its async context, such as a listener of its events, may outlive the request.
    if (isFollowing)
      return this.#log('debug', `${taskCalled(task.name)} was added after its request was over, and starts at once`, { task });
    this.#log(
      'warn',
      `${taskCalled(task.name)} was added after its request was over; await the work that adds it, ` +
        'and do not keep the list of a request in a singleton or a durable provider',
      { task },
    );
  }

  /** Nest injects no REQUEST if a provider is resolved by hand, without `registerRequestByContextId()`. */
  addedToNoRequest(task: Task): void {
    this.#log(
      'debug',
      `${taskCalled(task.name)} was added to a list that belongs to no request, and starts at once. In a request, call ` +
        '`moduleRef.registerRequestByContextId(request, contextId)` before `moduleRef.resolve()`',
      { task },
    );
  }

  /** Warns of a task added inside `within()` to the list of the surrounding request: it runs even if that call fails. */
  addedPastWithin(task: Task): void {
    this.#log(
      'warn',
      `${taskCalled(task.name)} was added to the list of its request in a call of \`within()\`, and runs after the response, however that call ` +
        'ends; add it to the list that `within()` passes to its function',
      { task },
    );
  }

  addedAfterTransaction(task: Task): void {
    this.#log(
      'warn',
      `${taskCalled(task.name)} was added after its transaction was over, and does not depend on it; await the work that adds it inside the transaction`,
      { task },
    );
  }

  savedWithoutClient(): void {
    this.#log(
      'warn',
      'Tasks were added in `runner.transaction()` without the client of the transaction, and a crash after the COMMIT can lose them; pass it before ' +
        'the work, as in `join(fromPg(client), () => …)`, for the outbox to save them',
    );
  }

  /** Warns of a promise that was requested and has not settled for a while. */
  waitsForItself(promise: string, seconds: number): void {
    this.#log(
      'warn',
      `\`${promise}\` has not settled for ${seconds} s, while the code that a task waits for is still running. A handler, or a task, that ` +
        'awaits it for its own tasks waits for itself: return first, and await it elsewhere',
    );
  }

  /** Logs the tasks that a shutdown lost, in one line, with the number of tasks of each name. */
  lost(names: ReadonlyMap<string, number>, one: string, many: string, reason: string): void {
    const total = [...names.values()].reduce((sum, count) => sum + count, 0);
    const [first] = names.keys();
    if (first === undefined) return;
    if (total === 1) return this.#log('error', `${taskCalled(first)} ${one}: ${reason}`);
    this.#log('error', `${total} background tasks ${many}: ${reason}: ${countedNames(names)}`);
  }

  /** Logs tasks that failed with the same error, in one line. */
  failedTogether(tasks: readonly Task[], error: unknown): void {
    const [first] = tasks;
    if (!first) return;
    // The message of a refusal names the tasks.
    if (error instanceof RefusedError) first.runInScope(() => this.refused(error));
    else
      first.runInScope(() =>
        this.#log('error', `${tasksCalled(tasks.map(({ name }) => name))} failed: ${headlineOf(error)}`, {
          task: tasks.length === 1 ? first : undefined,
          error,
        }),
      );
  }

  waitUntilRejected(error: unknown): void {
    this.#log('error', `waitUntil failed, and the platform may not wait for the tasks of a request: ${headlineOf(error)}`, { error });
  }

  /** Logs a task that the engine will never accept. */
  setAside(name: string, id: string, error: unknown): void {
    this.#log(
      'error',
      `${taskCalled(name)} (${id}) is set aside in the outbox, as the engine refuses it: ${messageOf(error)}. Delete its row, or clear the reason in the row ` +
        'to send it again',
      { task: { name, id }, error, hidesStack: true },
    );
  }

  onceWithoutTransaction(name: string): void {
    this.#onceWarnings.pass(name, () =>
      this.#log(
        'error',
        `${taskCalled(name)} has \`once\`, but opened no transaction that could mark it as done, so it may run again if a worker dies. ` +
          'Open one that the package knows, with transactionalTasks() or runner.transaction(), or leave `once` out',
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
      'A background task awaits the shutdown that it requested, which does not wait for it; in a task, call `app.close()` without `await`',
    );
  }

  /** Logs an error once, as several handlers may throw it, such as the resolvers of one GraphQL field. */
  refused(error: Error): void {
    if (this.#refused.has(error)) return;
    this.#refused.add(error);
    const write = (): void => this.#log('error', error.message, { error, hidesStack: true });
    if (error instanceof RefusedError) this.#refusals.pass(error.code, write);
    else write();
  }

  endedLate(task: Task, how: 'completed' | 'failed', error: unknown): void {
    task.runInScope(() => this.#endedLate(task, how, error));
  }

  #endedLate(task: Task, how: 'completed' | 'failed', error: unknown): void {
    const name = taskCalled(task.name);
    if (how === 'completed') this.#log('warn', `${name}${jobOf(task)} completed after it had been aborted`, { task });
    else if (stoppedBySignal(task, error)) this.#log('debug', `${name} stopped when its signal fired`, { task });
    else this.#log('error', `${name}${jobOf(task)} failed after it had been aborted: ${headlineOf(error)}`, { task, error });
  }

  #log(level: 'error' | 'warn' | 'log' | 'debug', message: string, { task, error, hidesStack }: LineDetails = {}): void {
    try {
      const stack = hidesStack ? undefined : stackOf(error);
      if ((task || error !== undefined) && loggerTakesFields()) this.#logger[level](fieldsOf(task, error), message);
      else if (stack === undefined) this.#logger[level](message);
      else this.#logger[level](message, stack);
    } catch {
      // A logger that throws must not take the task's siblings, or the process, with it.
    }
  }
}

/** The fields of a line. They contain neither arguments, nor properties of an error that may contain them. */
function fieldsOf(task: LineDetails['task'], error: unknown): object {
  const err = shownError(error);
  return { ...(task && { task: task.name, taskId: task.id }), ...(err && { err }) };
}

/** The number of the attempt, if there are several, and the id of the job. */
function attemptOf({ attempt, attempts, jobId }: Task): string {
  const details: string[] = [];
  // The task was retried by hand.
  if (attempt > attempts) details.push(`attempt ${attempt}, ${attempt - attempts} more than its option \`attempts\` allows`);
  else if (attempts > 1) details.push(`attempt ${attempt} of ${attempts}`);
  if (jobId !== undefined) details.push(`job ${jobId}`);
  return details.length > 0 ? ` (${details.join(', ')})` : '';
}

function jobOf({ jobId }: Task): string {
  return jobId === undefined ? '' : ` (job ${jobId})`;
}

/** True if the task failed with the reason of its signal. That reason has been logged already. */
function stoppedBySignal(task: Task, error: unknown): boolean {
  try {
    // `fetch` rejects with the reason itself, Node's own functions with an error that has it for its cause.
    return error === task.signal.reason || (isError(error) && error.cause === task.signal.reason);
  } catch {
    return false;
  }
}
