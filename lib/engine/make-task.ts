import type { AnyFunction } from '../task/background-task.js';
import { NO_OPTIONS, checkTaskOptions } from '../task/options.js';
import { Task } from '../task/task.js';
import { invalid } from '../task/validation.js';
import { namedMethodOf } from './named-methods.js';
import { NamedTask } from './named-task.js';
import { BACKGROUND_TASK_EXPECTATIONS, type BackgroundTaskOptions } from './options.js';

/**
 * Makes the task of a function, or of options and a function, with its arguments: it keeps the array.
 *
 * @throws BackgroundTasksError `INVALID_TASK` without a function, `INVALID_OPTION` for a bad option.
 */
export function makeTask(first: unknown, rest: unknown[]): Task {
  const func = typeof first === 'function' ? first : rest.shift();
  if (typeof func !== 'function') {
    // Without options in front, what follows is an argument, which must not be quoted.
    throw invalid(
      'INVALID_TASK',
      'a task',
      'a function, or options and a function: the function itself, and not what it returns',
      first instanceof Object ? (func ?? first) : first,
    );
  }
  const options: Readonly<BackgroundTaskOptions> = func === first ? NO_OPTIONS : checkTaskOptions(first, BACKGROUND_TASK_EXPECTATIONS);
  // The types of `addTask` have matched the function with its arguments.
  const method = namedMethodOf(func as AnyFunction);
  if (method) return new NamedTask(method, func as AnyFunction, rest, options);
  if (options.flush) throw invalid('INVALID_TASK', 'a task with the option `flush`', 'a @BackgroundTask() method', func);
  return new Task(func as AnyFunction, rest, options);
}
