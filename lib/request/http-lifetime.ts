import type { ServerResponse } from 'node:http';
import { clearTimeout, setImmediate, setTimeout } from 'node:timers';
import type { Outcome } from '../list/task-list.js';
import { releaseResponse, responseOf } from '../nest-internals/requests.js';
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

/** Time after which a refused client may try again, in seconds. */
const RETRY_AFTER_SECONDS = '1';

/** Once its client has left, a request has this time to reach a handler, or to be answered. */
const CLIENT_LEFT_GRACE_MS = 500;

/**
 * One HTTP request in one application. It is over once its response is over and none of its handlers is running.
 *
 * The outcome is a failure if an exception left the interceptors, occurred while their value was sent, or reached the error handler of the
 * platform, or if the server cut the response off. If no handler was reached, the status decides, as there is nothing else to go by: 400 or
 * more, or no answer at all, is a failure.
 */
export class HttpLifetime extends Lifetime {
  /** Released, like the response, once the request is over, as a task may run for a long time. */
  #request: object | undefined;
  /** Looked up and observed when the first task is added: a request without tasks pays for neither. */
  #response: ServerResponse | undefined;
  /** The lifetime in the application that this one is mounted in. */
  readonly #outer: HttpLifetime | undefined;
  /** The refusal of a task that a guard, or middleware, added. */
  #refusedEarly: RefusedError | undefined;
  #hasReachedHandler = false;
  /** True while the shutdown waits for the request. */
  #isAwaited = false;
  /** True if the handler lasts as long as its client, as an event stream does. */
  #isEndless = false;
  /** True once the connection of the request has closed. */
  #isClientGone = false;
  #onShutdown: (() => void) | undefined;
  /** The status when the handler returned a stream; Nest reads its first chunk later. */
  #statusBefore: number | undefined;
  /** True once the client has been answered, even if it had left. */
  #isAnswered = false;
  #graceTimer: NodeJS.Timeout | undefined;

  private constructor(runner: Runner, request: object, outer: HttpLifetime | undefined) {
    super(runner, 'waiting');
    this.#request = request;
    this.#outer = outer;
  }

  /** The lifetime of a raw request in an application. Every call returns the same one. */
  static of(request: object, runner: Runner): HttpLifetime {
    const latest = HttpLifetime.latest(request);
    let lifetime = latest;
    while (lifetime && lifetime.runner !== runner) lifetime = lifetime.#outer;
    if (lifetime) return lifetime;
    const added = new HttpLifetime(runner, request, latest);
    lifetimes.set(request, added);
    return added;
  }

  /** The lifetime of a raw request in the application that received it last: the innermost, if one is mounted in another. */
  static latest(request: object): HttpLifetime | undefined {
    const latest = lifetimes.get(request);
    return latest instanceof HttpLifetime ? latest : undefined;
  }

  /** Called when the server cuts a response off. Marks the request as failed in all applications that wait for its end. */
  static cutOff(request: object): void {
    for (let lifetime = HttpLifetime.latest(request); lifetime; lifetime = lifetime.#outer) {
      if (lifetime.#response) lifetime.markSendFailed();
    }
  }

  /** Called when the connection of a request closes. No application waits for the request any more if it has no tasks. */
  static clientGone(request: object): void {
    for (let lifetime = HttpLifetime.latest(request); lifetime; lifetime = lifetime.#outer) {
      lifetime.#clientHasGone();
    }
  }

  /** Makes the shutdown wait for a request that has not reached a handler: until a handler ends, or the answer begins without one. */
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
    // The request got here, so the guard whose task was refused has caught the error.
    if (this.#refusedEarly && !this.#response?.headersSent) this.#response?.removeHeader('Retry-After');
    this.#refusedEarly = undefined;
    this.#isEndless = isEndless;
    // A guard has added tasks.
    if (isEndless && this.list) this.#flushAtShutdown();
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
      // The interceptor sees an error that a handler does not catch. Nothing sees the errors of a guard or of middleware.
      if (error instanceof RefusedError && !this.hasHandlerAtWork) {
        this.#refusedEarly = error;
        this.#answerRetryAfter();
      }
      throw error;
    }
  }

  protected override flush(): void {
    if (this.#refusedEarly) this.reportRefusal(this.#refusedEarly);
    clearTimeout(this.#graceTimer);
    super.flush();
    if (this.#onShutdown) this.runner.closing.removeEventListener('abort', this.#onShutdown);
    this.#onShutdown = undefined;
    this.#releaseRequest();
  }

  protected override get outcome(): Outcome {
    return this.hasFailed || this.#hasFailedUnseen() ? 'failure' : 'success';
  }

  #releaseRequest(): void {
    const [request, response] = [this.#request, this.#response];
    this.#request = this.#response = undefined;
    if (!request || !response || !(response.writableFinished || response.destroyed)) return;
    // The application around this one, or inside of it, may need the response.
    if (!this.#outer && lifetimes.get(request) === this) releaseResponse(request);
  }

  get #isOpen(): boolean {
    return this.state === 'waiting' || this.state === 'handling' || this.state === 'ending';
  }

  /**
   * An event stream may stay open for as long as the process. Its tasks run one turn after the shutdown begins, so that it may end first.
   */
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

  /** Over HTTP/2, many requests share a connection, whose end does not tell which requests it concerns. */
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
    if (!response)
      throw new BackgroundTasksError(
        'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
        'Expected an HTTP request, got one without a response to wait for',
      );
    this.#response = response;
    if (isUpgrade(response)) onceHandshakeAnswered(response.req.socket, (status) => this.#handshakeAnswered(status));
    onceOver(response, () => this.#responseIsOver(response));
    // Observed last: once the response is over, it is always destroyed.
    observeCutOff(response);
  }

  #responseIsOver(response: ServerResponse): void {
    this.#isAnswered = response.headersSent || response.writableEnded;
    if (this.#isAnswered) return this.on('answered');
    this.on('clientLeft');
    if (this.state !== 'left') return;
    this.#graceTimer = setTimeout(() => this.on('graceEnded'), CLIENT_LEFT_GRACE_MS);
    onceAnswered(response, () => {
      this.#isAnswered = true;
      this.on('answered');
    });
  }

  /** A handshake is over once it is answered, and 101 is a success. The connection that follows is not part of the request. */
  #handshakeAnswered(status: number): void {
    this.#isAnswered = true;
    if (status >= 400) this.markFailed();
    this.on('answered');
  }

  /** True if only the response shows that the request failed, and no exception was seen. */
  #hasFailedUnseen(): boolean {
    const status = this.#response?.statusCode ?? 0;
    if (!this.#hasReachedHandler) return status >= 400 || !this.#isAnswered;
    return this.#statusBefore !== undefined && this.#statusBefore !== status && status >= 400;
  }
}

const observeCutOff = observeCutOffs((request) => HttpLifetime.cutOff(request));
