import type { BackgroundTask as TaskInterface } from '../task/background-task.js';
import { Task } from '../task/task.js';
import { classAndDecorator } from './class-and-decorator.js';
import { makeTask } from './make-task.js';
import { decorateMethod } from './named-method.decorator.js';
import type { NamedTaskOptions } from './named-task.options.js';
import type { BackgroundTaskOptions } from './options.js';

export interface BackgroundTask extends TaskInterface {}

export interface BackgroundTaskConstructor {
  readonly prototype: BackgroundTask;
  new <Args extends unknown[]>(func: (...args: Args) => unknown, ...args: NoInfer<Args>): BackgroundTask;
  new <Args extends unknown[]>(options: BackgroundTaskOptions, func: (...args: Args) => unknown, ...args: NoInfer<Args>): BackgroundTask;
  (name?: string, options?: NamedTaskOptions): MethodDecorator;
}

/**
 * One task: a function and its arguments, as Starlette's `BackgroundTask`.
 *
 * Pass a method in a closure, `() => this.mailer.send(to)`: that a bare `this.mailer.send` has lost its `this` cannot be detected.
 *
 * As a decorator, on a provider's method: `tasks.addTask(this.mail.sendEmail, to)` then calls it on its own instance, in process or, where
 * the module has one, on an engine. The name, `Class.method` by default, is what waiting tasks are found by: keep it when you rename.
 *
 * @throws BackgroundTasksError `INVALID_TASK` without a function, `INVALID_OPTION` for a bad option.
 */
export const BackgroundTask: BackgroundTaskConstructor = classAndDecorator(Task, 'BackgroundTask', decorateMethod, makeTask);
