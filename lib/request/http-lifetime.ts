import type { ServerResponse } from 'node:http';
import { clearTimeout, setImmediate, setTimeout } from 'node:timers';
import type { Outcome } from '../list/task-list.js';
import { letGoOfResponse, responseOf } from '../nest-internals/requests.js';
import {
  isHttp2,
  isUpgrade,
  observeCutOffs,
  onceAnswered,
  onceHandshakeAnswered,
  onceHeadWritten,
  onceOver,
} from '../nest-internals/response.js';
import type { Runner } from '../runner/runner.js';
import { BackgroundTasksError, RefusedError } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { lifetimes } from './context.js';
import { Lifetime } from './lifetime.js';

/** Time after which a client that was refused may try again, in seconds. */
const RETRY_AFTER_SECONDS = '1';

/** Time that a request has to reach a handler, or to be answered, once its client has left. */
const LEFT_ALONE_MS = 500;

/**
 * One HTTP request in one application. It is over once its response is over and none of its handlers is at work.
 *
 * The outcome is a failure if an exception has left the interceptors, has come up while their value was sent, or has reached the error handler
 * of the platform, or if the server has cut the response off. The status decides where no handler was reached, as nothing else tells
 * then: 400 or more, or no answer at all, is a failure.
 */
export class HttpLifetime extends Lifetime {
  /** Let go of, like the response, once the request is over: a task may run for long. */
  #request: object | undefined;
  /** Looked up, and listened to, with the first task: a request without tasks pays for neither. */
  #response: ServerResponse | undefined;
  /** The lifetime in the application that this one is mounted in. */
  readonly #outer: HttpLifetime | undefined;
  /** The refusal of a task that a guard, or middleware, added. */
  #refusedEarly: RefusedError | undefined;
  #hasReachedHandler = false;
  /** True while the shutdown waits for the request. */
  #isAwaited = false;
  /** True for a handler that lasts as long as its client: an event stream. */
  #isEndless = false;
  /** True once the connection of the request has closed. */
  #isClientGone = false;
  #onShutdown: (() => void) | undefined;
  /** The status when the handler returned a stream; Nest reads its first chunk later. */
  #statusBefore: number | undefined;
  /** True once somebody has answered the client, also if it had left. */
  #isAnswered = false;
  #leftAloneTimer: NodeJS.Timeout | undefined;

  private constructor(runner: Runner, request: object, outer: HttpLifetime | undefined) {
    super(runner, 'waiting');
    this.#request = request;
    this.#outer = outer;
  }

  /** The lifetime of a raw request in an application: the same one for everybody who asks. */
  static of(request: object, runner: Runner): HttpLifetime {
    const latest = HttpLifetime.latest(request);
    let lifetime = latest;
    while (lifetime && lifetime.runner !== runner) lifetime = lifetime.#outer;
    if (lifetime) return lifetime;
    const added = new HttpLifetime(runner, request, latest);
    lifetimes.set(request, added);
    return added;
  }

  /** The lifetime of a raw request in the application that came to it last: the innermost, where one is mounted in another. */
  static latest(request: object): HttpLifetime | undefined {
    const latest = lifetimes.get(request);
    return latest instanceof HttpLifetime ? latest : undefined;
  }

  /** Tells the lifetimes of a request in all applications that wait for its end that the server has cut its response off. */
  static cutOff(request: object): void {
    for (let lifetime = HttpLifetime.latest(request); lifetime; lifetime = lifetime.#outer) {
      if (lifetime.#response) lifetime.markSendFailed();
    }
  }

  /** Tells the lifetimes of a request in all applications that its connection has closed: without tasks, nothing is left to wait for. */
  static clientGone(request: object): void {
    for (let lifetime = HttpLifetime.latest(request); lifetime; lifetime = lifetime.#outer) {
      lifetime.#clientHasGone();
    }
  }

  /** Has the shutdown wait for a request that has not reached a handler: until one has ended, or the answer begins without one. */
  awaitHandler(response: ServerResponse): void {
    if (this.#hasReachedHandler || response.headersSent) return;
    this.#await(true);
    const unlessHandled = (): void => {
      if (!this.hasHandlerAtWork) this.#await(false);
    };
    onceHeadWritten(response, unlessHandled);
    onceOver(response, unlessHandled);
  }

  override handlerStarted(isEndless = false): void {
    if (!this.#hasReachedHandler) this.#watchHttp2Client();
    this.#hasReachedHandler = true;
    // The request got here, so that a guard whose task was refused has caught the error.
    if (this.#refusedEarly && !this.#response?.headersSent) this.#response?.removeHeader('Retry-After');
    this.#refusedEarly = undefined;
    this.#isEndless = isEndless;
    super.handlerStarted();
    this.#await(!isEndless && !(this.#isClientGone && !this.list));
  }

  override handlerSettled(): void {
    super.handlerSettled();
    if (!this.hasHandlerAtWork) this.#await(false);
  }

  override markFailed(error?: unknown): void {
    if (error instanceof RefusedError) this.#answerRetryAfter();
    super.markFailed(error);
  }

  /** Makes the outcome a failure, unless the response is over already. */
  markSendFailed(): void {
    if (this.#isOpen) this.markFailed();
  }

  override markStreaming(): void {
    this.#statusBefore = this.#request && responseOf(this.#request)?.statusCode;
  }

  override add(task: Task, isFollowing?: boolean): void {
    if (this.#request && !this.#response) this.#watchResponse(this.#request);
    if (this.#isEndless) this.#flushAtShutdown();
    try {
      super.add(task, isFollowing);
    } catch (error) {
      // The interceptor says whether a handler caught the error; nobody says that of a guard or of middleware.
      if (error instanceof RefusedError && !this.hasHandlerAtWork) {
        this.#refusedEarly = error;
        this.#answerRetryAfter();
      }
      throw error;
    }
  }

  protected override flush(): void {
    if (this.#refusedEarly) this.reportRefusal(this.#refusedEarly);
    clearTimeout(this.#leftAloneTimer);
    super.flush();
    if (this.#onShutdown) this.runner.closing.removeEventListener('abort', this.#onShutdown);
    this.#onShutdown = undefined;
    this.#letGoOfRequest();
  }

  protected override get outcome(): Outcome {
    return this.hasFailed || this.#hasFailedUnseen() ? 'failure' : 'success';
  }

  #letGoOfRequest(): void {
    const [request, response] = [this.#request, this.#response];
    this.#request = this.#response = undefined;
    if (!request || !response || !(response.writableFinished || response.destroyed)) return;
    // The application around this one, or inside of it, may need the response.
    if (!this.#outer && lifetimes.get(request) === this) letGoOfResponse(request);
  }

  get #isOpen(): boolean {
    return this.state === 'waiting' || this.state === 'handling' || this.state === 'ending';
  }

  /** An event stream may stay open for as long as the process. Its tasks run when the shutdown begins, after a turn in which it may end. */
  #flushAtShutdown(): void {
    if (this.#onShutdown) return;
    this.#onShutdown = () => setImmediate(() => this.on('shutdownBegan'));
    const { closing } = this.runner;
    if (closing.aborted) this.#onShutdown();
    else closing.addEventListener('abort', this.#onShutdown);
  }

  #await(isAwaited: boolean): void {
    if (isAwaited === this.#isAwaited) return;
    this.#isAwaited = isAwaited;
    if (isAwaited) this.runner.counters.handlerStarted();
    else this.runner.counters.handlerSettled();
  }

  #clientHasGone(): void {
    this.#isClientGone = true;
    if (!this.list) this.#await(false);
  }

  /** Over HTTP/2 a connection has many requests, and does not tell which ones its end, or the end of a stream, concerns. */
  #watchHttp2Client(): void {
    const response = this.#request && responseOf(this.#request);
    if (!response || !isHttp2(response)) return;
    onceOver(response, () => {
      if (!response.writableEnded) this.#clientHasGone();
    });
  }

  #answerRetryAfter(): void {
    if (!this.#response?.headersSent) this.#response?.setHeader('Retry-After', RETRY_AFTER_SECONDS);
  }

  #watchResponse(request: object): void {
    const response = responseOf(request);
    if (!response) throw new BackgroundTasksError('UNSUPPORTED_CONTEXT', 'Expected an HTTP request: this one has no response to wait for');
    this.#response = response;
    if (isUpgrade(response)) onceHandshakeAnswered(response.req.socket, (status) => this.#handshakeAnswered(status));
    onceOver(response, () => this.#responseIsOver(response));
    // Once the response is over, it is destroyed as a matter of course.
    observeCutOff(response);
  }

  #responseIsOver(response: ServerResponse): void {
    this.#isAnswered = response.headersSent || response.writableEnded;
    if (this.#isAnswered) return this.on('answered');
    this.on('clientLeft');
    if (this.state !== 'left') return;
    this.#leftAloneTimer = setTimeout(() => this.on('leftAlone'), LEFT_ALONE_MS);
    onceAnswered(response, () => {
      this.#isAnswered = true;
      this.on('answered');
    });
  }

  /** A handshake is over with its answer, and 101 is its success: the connection that follows is no part of the request. */
  #handshakeAnswered(status: number): void {
    this.#isAnswered = true;
    if (status >= 400) this.markFailed();
    this.on('answered');
  }

  /** True if the response is an error that nobody has told of. */
  #hasFailedUnseen(): boolean {
    const status = this.#response?.statusCode ?? 0;
    if (!this.#hasReachedHandler) return status >= 400 || !this.#isAnswered;
    return this.#statusBefore !== undefined && this.#statusBefore !== status && status >= 400;
  }
}

const observeCutOff = observeCutOffs((request) => HttpLifetime.cutOff(request));
