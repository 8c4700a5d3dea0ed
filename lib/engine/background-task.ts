import type { Argument, ArgumentsFor, BackgroundTask as TaskInterface, Primitive, TheFunctionItself } from '../task/background-task.js';
import { Task } from '../task/task.js';
import { classAndDecorator } from './class-and-decorator.js';
import { makeTask } from './make-task.js';
import { decorateMethod } from './named-method.decorator.js';
import type { NamedTaskOptions } from './named-task.options.js';
import type { BackgroundTaskOptions } from './options.js';

export interface BackgroundTask extends TaskInterface {}

export interface BackgroundTaskConstructor {
  readonly prototype: BackgroundTask;
  new <Args extends Argument<Literal>[], Literal extends Primitive = Primitive>(
    func: TheFunctionItself<Args>,
    ...args: ArgumentsFor<Args>
  ): BackgroundTask;
  new <Args extends Argument<Literal>[], Literal extends Primitive = Primitive>(
    options: BackgroundTaskOptions,
    func: TheFunctionItself<Args>,
    ...args: ArgumentsFor<Args>
  ): BackgroundTask;
  (name?: string, options?: NamedTaskOptions): MethodDecorator;
  (options: NamedTaskOptions): MethodDecorator;
}

/**
 * One task: a function and its arguments, as Starlette's `BackgroundTask`.
 *
 * As a decorator, on a provider's method: `tasks.addTask(this.mail.sendEmail, to)` then calls the method on its own provider, in process, or
 * in a worker if the module has an engine. Waiting tasks are found by their name, `Class.method` by default: give one, and keep it when you
 * rename the method.
 *
 * @throws BackgroundTasksError `INVALID_TASK` without a function, `INVALID_OPTION` for a bad option.
 */
export const BackgroundTask: BackgroundTaskConstructor = classAndDecorator(
  Task,
  'BackgroundTask',
  decorateMethod,
  (first: unknown, ...rest: unknown[]) => makeTask(first, rest),
);
