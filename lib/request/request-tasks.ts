import type { ServerResponse } from 'node:http';
import type { ExecutionContext } from '@nestjs/common';
import type { BackgroundTask } from '../background-task.js';
import { BackgroundTasksError, RefusedError } from '../background-tasks.errors.js';
import type { BackgroundTasksRunner } from '../background-tasks.runner.js';
import { TrackedTasks } from '../tracked-tasks.js';
import { answersByHand, onceAnswered, onceOver, responseOf } from './http.js';
import { lists } from './tasks-of.js';

/** Seconds after which a client that was refused may try again. */
const RETRY_AFTER = '1';

/** The list of one request: flushed once its response is over and none of its handlers is at work. */
export class RequestTasks extends TrackedTasks {
  readonly #request: object;
  /** Looked up, and listened to, with the first task: a request without tasks pays for neither. */
  #response: ServerResponse | undefined;
  #over = false;
  #failed = false;
  #refused = false;
  #handlersAtWork = 0;
  /** The context of the handler that settled last, and the status of the response by then. */
  #settled: { context: ExecutionContext | undefined; status: number | undefined } | undefined;

  private constructor(runner: BackgroundTasksRunner, request: object) {
    super(runner);
    this.#request = request;
  }

  /** The list of a raw request: one and the same for everybody who asks. */
  static of(request: object, runner: BackgroundTasksRunner): RequestTasks {
    const known = lists.get(request);
    if (known instanceof RequestTasks) return known;
    const tasks = new RequestTasks(runner, request);
    lists.set(request, tasks);
    return tasks;
  }

  handlerStarted(): void {
    this.#handlersAtWork += 1;
    this.runner.handlerStarted();
  }

  handlerSettled(context?: ExecutionContext): void {
    this.#handlersAtWork -= 1;
    this.#settled = { context, status: this.#response?.statusCode };
    if (this.#refused && !this.#failed && !this.#response?.headersSent) this.#response?.removeHeader('Retry-After');
    this.#flushIfOver();
    this.runner.handlerSettled();
  }

  /** Makes the outcome a failure. */
  fail(): void {
    this.#failed = true;
  }

  override add(task: BackgroundTask): void {
    this.#response ??= this.#watchResponse();
    if (this.done) return this.addLate(task);
    try {
      super.add(task);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      this.#refused = true;
      if (!this.#response.headersSent) this.#response.setHeader('Retry-After', RETRY_AFTER);
      throw error;
    }
  }

  #watchResponse(): ServerResponse {
    const response = responseOf(this.#request);
    if (!response) throw new BackgroundTasksError('UNSUPPORTED_CONTEXT', 'Expected an HTTP request: this one has no response to wait for');
    this.#response = response;
    onceOver(response, () => {
      this.#over = true;
      const unanswered = !response.headersSent && !response.writableEnded;
      // The client left before its request reached a handler: what becomes of it shows when it does, or when it is answered all the same.
      if (unanswered && !this.#settled) onceAnswered(response, () => this.#flushIfOver());
      else this.#flushIfOver();
    });
    return response;
  }

  #flushIfOver(): void {
    if (this.#over && this.#handlersAtWork === 0) this.flush(this.#failed || this.#turnedIntoError() ? 'failure' : 'success');
  }

  /** Whether the response is an error that no interceptor has seen. */
  #turnedIntoError(): boolean {
    const status = this.#response?.statusCode ?? 0;
    if (status < 400) return false;
    // A guard that denies and middleware that answers do not reach the interceptors.
    if (!this.#settled) return true;
    // What the handler answered itself is no failure; what became of its value afterwards is, if it could not be serialised, say.
    return this.#settled.status !== undefined && this.#settled.status !== status && !answersByHand(this.#settled.context);
  }
}
