import { HttpException } from '@nestjs/common';
import { countedNames, inOneLine, quoted } from './describe.js';

/** The code of an error. Codes are stable across releases: switch on them, not on the message. */
export type BackgroundTasksErrorCode =
  | 'BACKGROUND_TASK_INVALID_OPTION'
  | 'BACKGROUND_TASK_INVALID_TASK'
  | 'BACKGROUND_TASK_CONFLICTING_OPTIONS'
  | 'BACKGROUND_TASK_MODULE_NOT_IMPORTED'
  | 'BACKGROUND_TASK_MISSING_PACKAGE'
  | 'BACKGROUND_TASK_UNSUPPORTED_CONTEXT'
  | 'BACKGROUND_TASK_LIST_OF_A_REQUEST'
  | 'BACKGROUND_TASK_CANCELLED'
  | 'BACKGROUND_TASK_TIMEOUT'
  | 'BACKGROUND_TASK_OVERFLOW'
  | 'BACKGROUND_TASK_ENGINE'
  | 'BACKGROUND_TASK_OUTBOX'
  | 'BACKGROUND_TASK_SHUTDOWN';

/** Marks every error of this package, including those of another copy of it. */
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
   * Makes `instanceof` true for errors that answer 503. They extend `HttpException`, and a class has only one parent.
   * @internal
   */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (this !== BackgroundTasksError) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === 'object' && value !== null && BRAND in value;
  }
}

Object.defineProperty(BackgroundTasksError.prototype, BRAND, { value: true });

/** The words for a task in errors and logs. */
export function taskCalled(name: string): string {
  return `Background task ${quoted(name)}`;
}

/** The words for several tasks: each name, with the number of tasks that have it. */
export function tasksCalled(names: readonly string[]): string {
  const [first] = names;
  if (first !== undefined && names.length === 1) return taskCalled(first);
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return `Background tasks ${countedNames(counts)}`;
}

/** A task was cancelled while it ran. This is the reason of its signal. */
export class BackgroundTasksCancelledError extends BackgroundTasksError {
  override readonly name = 'BackgroundTasksCancelledError';

  constructor(
    readonly task: string,
    readonly reason: string,
  ) {
    super('BACKGROUND_TASK_CANCELLED', `${taskCalled(task)} was cancelled while it ran: ${inOneLine(reason)}`);
  }
}

/** A task was aborted because it took longer than its `timeout`. Its function cannot be stopped from outside: let it watch the signal. */
export class BackgroundTasksTimeoutError extends BackgroundTasksError {
  override readonly name = 'BackgroundTasksTimeoutError';

  constructor(
    readonly task: string,
    readonly timeout: number,
  ) {
    super(
      'BACKGROUND_TASK_TIMEOUT',
      `${taskCalled(task)} did not end within its timeout of ${timeout} ms and was aborted; pass \`currentTask()?.signal\` to the calls that it awaits, or raise \`timeout\``,
    );
  }
}

/** The response for a client. It reveals neither the names of tasks nor the limits. */
const UNAVAILABLE = { statusCode: 503, message: 'Service Unavailable' };

/** A task was refused. An `HttpException` with status 503, whose response does not include the message. */
export abstract class RefusedError extends HttpException implements BackgroundTasksError {
  override readonly name: string = 'RefusedError';
  // Properties of the package http-errors, which Express and Fastify understand: for an error that bypasses Nest.
  readonly statusCode = 503;
  readonly expose = false;

  constructor(
    readonly code: BackgroundTasksErrorCode,
    message: string,
  ) {
    super({ ...UNAVAILABLE }, UNAVAILABLE.statusCode);
    this.message = message;
    // `HttpException` captures the stack before the message is set.
    Error.captureStackTrace(this, new.target);
  }

  /**
   * The error for a client that sees the message of every error, as with GraphQL.
   * @internal
   */
  toResponse(): HttpException {
    return new HttpException({ ...UNAVAILABLE }, UNAVAILABLE.statusCode, { cause: this });
  }
}

Object.defineProperty(RefusedError.prototype, BRAND, { value: true });

/** `addTask` refused a task because `maxPending` tasks were waiting. Nest answers 503 unless you catch it. */
export class BackgroundTasksOverflowError extends RefusedError {
  override readonly name = 'BackgroundTasksOverflowError';

  constructor(
    readonly task: string,
    readonly maxPending: number,
  ) {
    super(
      'BACKGROUND_TASK_OVERFLOW',
      `${taskCalled(task)} was refused: ${maxPending} tasks are already waiting; try again later, or raise \`maxPending\``,
    );
  }
}

/** A task was refused or aborted because the application is shutting down. Nest answers 503 unless you catch it. */
export class BackgroundTasksShutdownError extends RefusedError {
  override readonly name = 'BackgroundTasksShutdownError';

  constructor(
    readonly task: string,
    predicate: string,
  ) {
    super('BACKGROUND_TASK_SHUTDOWN', `${taskCalled(task)} ${predicate}`);
  }
}

/**
 * The engine did not accept tasks in time. Under `flush: 'before-response'`, Nest answers 503. The `cause` is the last error of the engine.
 */
export class BackgroundTasksEngineError extends RefusedError {
  override readonly name = 'BackgroundTasksEngineError';

  constructor(
    readonly tasks: readonly string[],
    predicate: string,
    override readonly cause: unknown,
  ) {
    super('BACKGROUND_TASK_ENGINE', `${tasksCalled(tasks)} ${predicate}`);
  }
}
