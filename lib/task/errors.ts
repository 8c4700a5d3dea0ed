/** What went wrong, stable across releases: switch on this, not on the message. */
export type BackgroundTasksErrorCode =
  | 'INVALID_OPTION'
  | 'INVALID_TASK'
  | 'CONFLICTING_OPTIONS'
  | 'MODULE_NOT_IMPORTED'
  | 'UNSUPPORTED_CONTEXT'
  | 'LIST_OF_A_REQUEST'
  | 'TIMEOUT'
  | 'OVERFLOW'
  | 'ENGINE'
  | 'SHUTDOWN';

/** Base of every error that this package throws: a stable `code`, and a message that says what to do. */
export class BackgroundTasksError extends Error {
  override readonly name: string = 'BackgroundTasksError';

  constructor(
    readonly code: BackgroundTasksErrorCode,
    message: string,
  ) {
    super(message);
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
      `Background task "${task}" did not end within its timeout of ${timeout} ms and was given up; pass \`currentTask()?.signal\` to what it waits for, or raise \`timeout\``,
    );
  }
}

/** A task that was not taken. Nest answers 503 for it, without the message, unless it is caught. */
export abstract class RefusedError extends BackgroundTasksError {
  // The signature of the package http-errors, which Nest's default exception filter and Fastify understand.
  readonly statusCode = 503;
  readonly status = 503;
  readonly expose = false;
}

/** `addTask` was refused because `maxPending` tasks were waiting. Nest answers 503 for it unless it is caught. */
export class BackgroundTasksOverflowError extends RefusedError {
  override readonly name = 'BackgroundTasksOverflowError';

  constructor(
    readonly task: string,
    readonly maxPending: number,
  ) {
    super(
      'OVERFLOW',
      `Background task "${task}" was refused: ${maxPending} tasks are waiting already; try again later, or raise \`maxPending\``,
    );
  }
}

/** A task was refused, or given up, because the application shuts down. Nest answers 503 for it unless it is caught. */
export class BackgroundTasksShutdownError extends RefusedError {
  override readonly name = 'BackgroundTasksShutdownError';

  constructor(
    readonly task: string,
    what: string,
  ) {
    super('SHUTDOWN', `Background task "${task}" ${what}`);
  }
}
