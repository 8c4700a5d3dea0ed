import { HttpException } from '@nestjs/common';
import { countedNames, inOneLine, quoted } from './describe.js';

/** What went wrong, stable across releases: switch on this, not on the message. */
export type BackgroundTasksErrorCode =
  | 'INVALID_OPTION'
  | 'INVALID_TASK'
  | 'CONFLICTING_OPTIONS'
  | 'MODULE_NOT_IMPORTED'
  | 'MISSING_PACKAGE'
  | 'UNSUPPORTED_CONTEXT'
  | 'LIST_OF_A_REQUEST'
  | 'CANCELLED'
  | 'TIMEOUT'
  | 'OVERFLOW'
  | 'ENGINE'
  | 'OUTBOX'
  | 'SHUTDOWN';

/** What every error of this package has, of whichever copy of it. */
const BRAND = Symbol.for('nestjs-background-tasks:error');

/** Base of every error that this package throws: a stable `code`, and a message that says what to do. */
export class BackgroundTasksError extends Error {
  override readonly name: string = 'BackgroundTasksError';

  constructor(
    readonly code: BackgroundTasksErrorCode,
    message: string,
  ) {
    super(message);
  }

  /**
   * What answers 503 extends `HttpException`, and is an instance of this class all the same: a class has one parent.
   * @internal
   */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== BackgroundTasksError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === 'object' && value !== null && BRAND in value;
  }
}

Object.defineProperty(BackgroundTasksError.prototype, BRAND, { value: true });

/** A task as errors and logs call it. */
export function taskCalled(name: string): string {
  return `Background task ${quoted(name)}`;
}

/** The same for several: each name with how many have it. */
export function tasksCalled(names: readonly string[]): string {
  const [first] = names;
  if (first !== undefined && names.length === 1) return taskCalled(first);
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return `Background tasks ${countedNames(counts)}`;
}

/** A task was cancelled while it ran: the reason of its signal. */
export class BackgroundTasksCancelledError extends BackgroundTasksError {
  override readonly name = 'BackgroundTasksCancelledError';

  constructor(
    readonly task: string,
    readonly reason: string,
  ) {
    super('CANCELLED', `${taskCalled(task)} was cancelled while it ran: ${inOneLine(reason)}`);
  }
}

/** A task was given up because it took longer than its `timeout`. Its function cannot be stopped from outside: let it watch the signal. */
export class BackgroundTasksTimeoutError extends BackgroundTasksError {
  override readonly name = 'BackgroundTasksTimeoutError';

  constructor(
    readonly task: string,
    readonly timeout: number,
  ) {
    super(
      'TIMEOUT',
      `${taskCalled(task)} did not end within its timeout of ${timeout} ms and was given up; pass \`currentTask()?.signal\` to what it waits for, or raise \`timeout\``,
    );
  }
}

/** What a client gets to know: neither the names of tasks nor the limits. */
const UNAVAILABLE = { statusCode: 503, message: 'Service Unavailable' };

/** A task that was not taken: an `HttpException` with status 503, whose response has nothing of the message. */
export abstract class RefusedError extends HttpException implements BackgroundTasksError {
  override readonly name: string = 'RefusedError';
  // Of the package http-errors, for what is thrown past Nest: Express and Fastify understand it.
  readonly statusCode = 503;
  readonly expose = false;

  constructor(
    readonly code: BackgroundTasksErrorCode,
    message: string,
  ) {
    super({ ...UNAVAILABLE }, UNAVAILABLE.statusCode);
    this.message = message;
    // `HttpException` makes it before there is a message.
    Error.captureStackTrace(this, new.target);
  }

  /**
   * The same for a client that is shown the message of whatever is thrown, as that of GraphQL is.
   * @internal
   */
  toResponse(): HttpException {
    return new HttpException({ ...UNAVAILABLE }, UNAVAILABLE.statusCode, { cause: this });
  }
}

Object.defineProperty(RefusedError.prototype, BRAND, { value: true });

/** `addTask` was refused because `maxPending` tasks were waiting. Nest answers 503 for it unless it is caught. */
export class BackgroundTasksOverflowError extends RefusedError {
  override readonly name = 'BackgroundTasksOverflowError';

  constructor(
    readonly task: string,
    readonly maxPending: number,
  ) {
    super('OVERFLOW', `${taskCalled(task)} was refused: ${maxPending} tasks are waiting already; try again later, or raise \`maxPending\``);
  }
}

/** A task was refused, or given up, because the application shuts down. Nest answers 503 for it unless it is caught. */
export class BackgroundTasksShutdownError extends RefusedError {
  override readonly name = 'BackgroundTasksShutdownError';

  constructor(
    readonly task: string,
    what: string,
  ) {
    super('SHUTDOWN', `${taskCalled(task)} ${what}`);
  }
}

/** The engine did not take tasks in time. Nest answers 503 for it under `flush: 'before-response'`. Its `cause` is the last error of the engine. */
export class BackgroundTasksEngineError extends RefusedError {
  override readonly name = 'BackgroundTasksEngineError';

  constructor(
    readonly tasks: readonly string[],
    what: string,
    override readonly cause: unknown,
  ) {
    super('ENGINE', `${tasksCalled(tasks)} ${what}`);
  }
}
