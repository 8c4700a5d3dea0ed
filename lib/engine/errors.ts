import { RefusedError, tasksCalled } from '../task/errors.js';

/** The engine did not take tasks in time. Nest answers 503 for it under `flush: 'before-response'`. Its `cause` is what the engine said last. */
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
