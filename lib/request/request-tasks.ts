import type { ServerResponse } from 'node:http';
import { clearTimeout, setImmediate, setTimeout } from 'node:timers';
import { DeliverableTasks } from '../engine/deliverable-tasks.js';
import type { Execution } from '../runner/execution.js';
import { BackgroundTasksError, RefusedError } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { responseOf } from './http.js';
import { observeCutOffs, onceAnswered, onceHeadWritten, onceOver } from './response.js';
import { lists } from './tasks-of.js';

/** Seconds after which a client that was refused may try again. */
const RETRY_AFTER = '1';

/** Milliseconds that a request has to reach a handler, or to be answered, once its client has left. */
const LEFT_ALONE = 500;

/**
 * The list of one request in one application: flushed once its response is over and none of its handlers is at work.
 *
 * The outcome is a failure if an exception has left the interceptors, has come up while their value was sent, or has reached the error handler
 * of the platform, or if the server has cut the response off. The status is looked at where no handler was reached, as nothing else tells
 * then: 400 or more, or no answer at all, is a failure.
 */
export class RequestTasks extends DeliverableTasks {
  declare protected readonly runner: Execution;
  /** Let go of, as the response, when the list is flushed: a task may run on for long. */
  #request: object | undefined;
  /** Looked up, and listened to, with the first task: a request without tasks pays for neither. */
  #response: ServerResponse | undefined;
  /** The list of the application that this one is mounted in. */
  readonly #outer: RequestTasks | undefined;
  #over = false;
  #failed = false;
  /** What a guard, or middleware, was refused a task with. */
  #refusedEarly: RefusedError | undefined;
  #handlersAtWork = 0;
  #reachedHandler = false;
  /** Whether the shutdown waits for the request. */
  #awaited = false;
  /** The status by the time that a handler had returned something whose first part Nest reads later. */
  #statusBefore: number | undefined;
  /** Whether somebody has answered the client, also if the client had left. */
  #answered = false;
  #leftAlone: NodeJS.Timeout | undefined;

  private constructor(runner: Execution, request: object, outer: RequestTasks | undefined) {
    super(runner);
    this.#request = request;
    this.#outer = outer;
  }

  /** The list of a raw request in an application: one and the same for everybody who asks. */
  static of(request: object, runner: Execution): RequestTasks {
    const latest = RequestTasks.latest(request);
    let known = latest;
    while (known && known.runner !== runner) known = known.#outer;
    if (known) return known;
    const tasks = new RequestTasks(runner, request, latest);
    lists.set(request, tasks);
    return tasks;
  }

  /** The list of a raw request in the application that came to it last: the innermost, where one is mounted in another. */
  static latest(request: object): RequestTasks | undefined {
    const latest = lists.get(request);
    return latest instanceof RequestTasks ? latest : undefined;
  }

  /** Tells the lists of a request, whichever their applications, that the server has cut its response off: those that wait for its end. */
  static cutOff(request: object): void {
    for (let tasks = RequestTasks.latest(request); tasks; tasks = tasks.#outer) if (tasks.#response) tasks.failSending();
  }

  /** Has the shutdown wait for a request that has not reached a handler: until one has ended, or the answer has begun that it gets without. */
  awaitHandler(response: ServerResponse): void {
    if (this.#reachedHandler || response.headersSent) return;
    this.#await(true);
    const unlessHandled = (): void => {
      if (this.#handlersAtWork === 0) this.#await(false);
    };
    onceHeadWritten(response, unlessHandled);
    onceOver(response, unlessHandled);
  }

  /** `endless`: the shutdown does not wait for it. */
  handlerStarted(endless = false): void {
    this.#handlersAtWork += 1;
    this.#reachedHandler = true;
    // The request got here, so that a guard that was refused a task has caught the error.
    if (this.#refusedEarly && !this.#response?.headersSent) this.#response?.removeHeader('Retry-After');
    this.#refusedEarly = undefined;
    // What was flushed when the client had left was not all.
    this.outcome = undefined;
    this.#await(!endless);
  }

  handlerSettled(): void {
    this.#handlersAtWork -= 1;
    if (this.#handlersAtWork > 0) return;
    // What the handler returned may be an Observable, which is at work as soon as Nest subscribes to it.
    if (this.#over) setImmediate(() => this.#flushIfOver());
    this.#await(false);
  }

  /** Makes the outcome a failure. */
  fail(error?: unknown): void {
    this.#failed = true;
    if (!(error instanceof RefusedError)) return;
    this.#answerRetryAfter();
    this.reportRefusal(error);
  }

  /** The same, for what can only fail before the response is over. */
  failSending(): void {
    if (!this.#over) this.fail();
  }

  /** Says that Nest reads the first part of what a handler returned when the interceptors are through: its exception shows in the status alone. */
  streams(): void {
    this.#statusBefore = this.#request && responseOf(this.#request)?.statusCode;
  }

  override add(task: Task, isFollowing?: boolean): void {
    if (this.#request && !this.#response) this.#watchResponse(this.#request);
    if (this.done) return this.addLate(task, isFollowing);
    try {
      super.add(task);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      // Of a handler, the interceptor says whether it caught the error; of a guard or of middleware, nobody does.
      if (this.#handlersAtWork === 0) {
        this.#refusedEarly = error;
        this.#answerRetryAfter();
      }
      throw error;
    }
  }

  #await(awaited: boolean): void {
    if (awaited === this.#awaited) return;
    this.#awaited = awaited;
    if (awaited) this.runner.handlerStarted();
    else this.runner.handlerSettled();
  }

  #answerRetryAfter(): void {
    if (!this.#response?.headersSent) this.#response?.setHeader('Retry-After', RETRY_AFTER);
  }

  #watchResponse(request: object): void {
    const response = responseOf(request);
    if (!response) throw new BackgroundTasksError('UNSUPPORTED_CONTEXT', 'Expected an HTTP request: this one has no response to wait for');
    this.#response = response;
    onceOver(response, () => {
      this.#over = true;
      this.#answered = response.headersSent || response.writableEnded;
      if (this.#reachedHandler || this.#answered) return this.#flushIfOver();
      // The client left early: what becomes of the request shows when it reaches a handler, or is answered all the same. Neither may happen.
      this.#leftAlone = setTimeout(() => this.#flushIfOver(), LEFT_ALONE);
      onceAnswered(response, () => {
        this.#answered = true;
        this.#flushIfOver();
      });
    });
    // Once the response is over, it is destroyed as a matter of course.
    observeCutOff(response);
  }

  #flushIfOver(): void {
    if (!this.#over || this.#handlersAtWork > 0 || this.outcome) return;
    const outcome = this.#failed || this.#failedUnseen() ? 'failure' : 'success';
    if (this.#refusedEarly) this.reportRefusal(this.#refusedEarly);
    clearTimeout(this.#leftAlone);
    this.#request = this.#response = undefined;
    this.flush(outcome);
  }

  /** Whether the response is an error that nobody has told of. */
  #failedUnseen(): boolean {
    const status = this.#response?.statusCode ?? 0;
    if (!this.#reachedHandler) return status >= 400 || !this.#answered;
    return this.#statusBefore !== undefined && this.#statusBefore !== status && status >= 400;
  }
}

const observeCutOff = observeCutOffs((request) => RequestTasks.cutOff(request));
