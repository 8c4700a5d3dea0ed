import type { ServerResponse } from 'node:http';
import type { ExecutionContext } from '@nestjs/common';
import { DeliverableTasks } from '../engine/deliverable-tasks.js';
import type { Execution } from '../runner/execution.js';
import { BackgroundTasksError, RefusedError } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { answersByHand, onCutOff, onceAnswered, onceOver, responseOf, sendsEvents } from './http.js';
import { lists } from './tasks-of.js';

/** Seconds after which a client that was refused may try again. */
const RETRY_AFTER = '1';

/** The list of one request: flushed once its response is over and none of its handlers is at work. */
export class RequestTasks extends DeliverableTasks {
  declare protected readonly runner: Execution;
  /** Let go of, as the response, when the list is flushed: a task may run on for long. */
  #request: object | undefined;
  /** Looked up, and listened to, with the first task: a request without tasks pays for neither. */
  #response: ServerResponse | undefined;
  #over = false;
  #failed = false;
  /** What a guard, or middleware, was refused a task with. */
  #refusedEarly: RefusedError | undefined;
  #handlersAtWork = 0;
  /** The context of the handler that settled last, and the status of the response by then. */
  #settled: { context: ExecutionContext | undefined; status: number | undefined } | undefined;

  private constructor(runner: Execution, request: object) {
    super(runner);
    this.#request = request;
  }

  /** The list of a raw request: one and the same for everybody who asks. */
  static of(request: object, runner: Execution): RequestTasks {
    const known = lists.get(request);
    if (known instanceof RequestTasks) return known;
    const tasks = new RequestTasks(runner, request);
    lists.set(request, tasks);
    return tasks;
  }

  handlerStarted(context?: ExecutionContext): void {
    this.#handlersAtWork += 1;
    // The request got here, so that a guard that was refused a task has caught the error.
    if (this.#refusedEarly && !this.#response?.headersSent) this.#response?.removeHeader('Retry-After');
    this.#refusedEarly = undefined;
    if (!sendsEvents(context)) this.runner.handlerStarted();
  }

  handlerSettled(context?: ExecutionContext): void {
    this.#handlersAtWork -= 1;
    if (this.#request) this.#settled = { context, status: responseOf(this.#request)?.statusCode };
    this.#flushIfOver();
    if (!sendsEvents(context)) this.runner.handlerSettled();
  }

  /** Makes the outcome a failure. */
  fail(error?: unknown): void {
    this.#failed = true;
    if (!(error instanceof RefusedError)) return;
    this.#answerRetryAfter();
    this.reportRefusal(error);
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

  #answerRetryAfter(): void {
    if (!this.#response?.headersSent) this.#response?.setHeader('Retry-After', RETRY_AFTER);
  }

  #watchResponse(request: object): void {
    const response = responseOf(request);
    if (!response) throw new BackgroundTasksError('UNSUPPORTED_CONTEXT', 'Expected an HTTP request: this one has no response to wait for');
    this.#response = response;
    onceOver(response, () => {
      this.#over = true;
      const unanswered = !response.headersSent && !response.writableEnded;
      // The client left before its request reached a handler: what becomes of it shows when it does, or when it is answered all the same.
      if (unanswered && !this.#settled) onceAnswered(response, () => this.#flushIfOver());
      else this.#flushIfOver();
    });
    // Once the response is over, it is destroyed as a matter of course.
    onCutOff(response, () => {
      if (!this.#over) this.fail();
    });
  }

  #flushIfOver(): void {
    if (!this.#over || this.#handlersAtWork > 0) return;
    this.#failed ||= this.#turnedIntoError();
    if (this.#refusedEarly) this.reportRefusal(this.#refusedEarly);
    this.#request = this.#response = this.#settled = undefined;
    this.flush(this.#failed ? 'failure' : 'success');
  }

  /** Whether the response is an error that no interceptor has seen. */
  #turnedIntoError(): boolean {
    const status = this.#response?.statusCode ?? 0;
    if (status < 400) return false;
    // A guard that denies and middleware that answers do not reach the interceptors.
    if (!this.#settled) return true;
    // What the handler answered itself is no failure; what became of its value afterwards is, if it could not be serialised, say. Not seen is
    // the error of a value that was sent by hand on Fastify, and one whose status, 500, the handler had set already.
    return this.#settled.status !== status && !answersByHand(this.#settled.context);
  }
}
