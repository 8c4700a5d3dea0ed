import { countedNames } from '../task/describe-error.js';
import { RefusedError, taskCalled } from '../task/errors.js';

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

function tasksCalled(names: readonly string[]): string {
  const [first] = names;
  if (first !== undefined && names.length === 1) return taskCalled(first);
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return `Background tasks ${countedNames(counts)}`;
}
