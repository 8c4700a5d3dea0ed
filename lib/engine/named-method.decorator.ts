import { invalid } from '../task/validation.js';
import { declareNamedMethod } from './named-methods.js';
import { type NamedTaskOptions, checkNamedTaskOptions } from './named-task.options.js';

/** `@BackgroundTask()`. */
export function decorateMethod(name?: string, options: NamedTaskOptions = {}): MethodDecorator {
  if (name !== undefined && (typeof name !== 'string' || name === '')) {
    throw invalid('INVALID_OPTION', 'the name of @BackgroundTask()', 'a non-empty string', name);
  }
  const checked = checkNamedTaskOptions(options);
  return (prototype, key) => {
    if (typeof prototype === 'function') {
      throw invalid('INVALID_TASK', `@BackgroundTask() ${String(key)}`, 'a method of an instance', prototype);
    }
    declareNamedMethod({ name: name ?? `${prototype.constructor.name}.${String(key)}`, options: checked, prototype, key });
  };
}
