import { BackgroundTasksError } from '../task/errors.js';
import { invalid } from '../task/validation.js';
import { declareNamedMethod } from './named-methods.js';
import { type NamedTaskOptions, checkNamedTaskOptions } from './named-task.options.js';
import { watchCalls } from './watch-calls.js';

/** `@BackgroundTask()`: with a name, with options, or with both. */
export function decorateMethod(first?: string | NamedTaskOptions, second?: NamedTaskOptions): MethodDecorator {
  assertParentheses(first, second);
  const isNamed = typeof first !== 'object' || first === null || second !== undefined;
  const name = isNamed ? checkName(first) : undefined;
  const options = checkNamedTaskOptions((isNamed ? second : first) ?? {});
  return (prototype, key, descriptor: PropertyDescriptor | undefined) => {
    if (typeof prototype === 'function') {
      throw invalid('INVALID_TASK', `@BackgroundTask() ${String(key)}`, 'a method of an instance', prototype);
    }
    if (descriptor?.get || descriptor?.set) throw accessor(key);
    const method = { name: name ?? `${prototype.constructor.name}.${String(key)}`, options, prototype, key };
    declareNamedMethod(method);
    // A property has none: its function is the one that the constructor puts there.
    if (typeof descriptor?.value === 'function') descriptor.value = watchCalls(method, descriptor.value);
  };
}

function checkName(name: unknown): string | undefined {
  if (name === undefined || (typeof name === 'string' && name !== '')) return name;
  throw invalid('INVALID_OPTION', 'the name of @BackgroundTask()', 'a non-empty string', name);
}

/** Without parentheses, as types do not let it be written, it would get what it is to decorate. */
function assertParentheses(prototype: unknown, key: unknown): void {
  if (typeof key !== 'string' && typeof key !== 'symbol') return;
  throw new BackgroundTasksError(
    'INVALID_TASK',
    `@BackgroundTask has no parentheses on the method ${String(key)} of ${(prototype as object).constructor.name}: write @BackgroundTask()`,
  );
}

function accessor(key: PropertyKey): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_TASK',
    `Expected @BackgroundTask() ${String(key)} to be a method of an instance, got an accessor`,
  );
}
