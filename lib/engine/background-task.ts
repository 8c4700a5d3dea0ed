import type {
  AnyFunction,
  Argument,
  ArgumentsFor,
  BackgroundTask as TaskInterface,
  Primitive,
  TaskOptions,
  TheFunctionItself,
} from '../task/background-task.js';
import { BackgroundTasksError } from '../task/errors.js';
import { checkTaskOptions, invalid, NO_OPTIONS } from '../task/validation.js';
import { Task } from '../task/task.js';
import { NamedCall } from './named-call.js';
import { type NamedMethod, decorateMethod, namedMethodOf } from './named-methods.js';
import {
  BACKGROUND_TASK_EXPECTATIONS,
  type BackgroundTaskOptions,
  type EngineCallOptions,
  type NamedTaskOptions,
  engineOptionsOf,
} from './options.js';

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
 * One task: a function and its arguments, like Starlette's `BackgroundTask`.
 *
 * As a decorator on a provider's method: `tasks.addTask(this.mail.sendEmail, to)` then calls the method on its own provider, in process, or
 * in a worker if the module has an engine. Workers look up a task's method by its name, `Class.method` by default. Set a name, and keep it
 * when you rename the method.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` if there is no function, `BACKGROUND_TASK_INVALID_OPTION` for a bad option.
 */
export const BackgroundTask: BackgroundTaskConstructor = classAndDecorator(
  Task,
  'BackgroundTask',
  decorateMethod,
  (first: unknown, ...rest: unknown[]) => makeTask(first, rest),
);

/**
 * Makes a task from a function, or from options and a function, with the arguments of the function. It keeps the array.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` if there is no function, `BACKGROUND_TASK_INVALID_OPTION` for a bad option.
 */
export function makeTask(first: unknown, rest: unknown[]): Task {
  const func = typeof first === 'function' ? first : rest.shift();
  if (typeof func !== 'function') {
    // If the first argument is no options object, the next one is an argument of the task, which must not be quoted.
    throw invalid(
      'BACKGROUND_TASK_INVALID_TASK',
      'a task',
      'a function, or options and a function (the function itself, not its result)',
      first instanceof Object ? (func ?? first) : first,
    );
  }
  const options: Readonly<BackgroundTaskOptions> = func === first ? NO_OPTIONS : checkTaskOptions(first, BACKGROUND_TASK_EXPECTATIONS);
  // The types of `addTask` have matched the function with its arguments.
  const method = namedMethodOf(func as AnyFunction);
  if (method) return makeNamedTask(method, func as AnyFunction, rest, options);
  const [option] = Object.keys(ownEngineOptions(options));
  if (option !== undefined)
    throw invalid('BACKGROUND_TASK_INVALID_TASK', `a task with the option \`${option}\``, 'a @BackgroundTask() method', func);
  return new Task(func as AnyFunction, rest, options);
}

function makeNamedTask(method: NamedMethod, func: AnyFunction, args: unknown[], own: BackgroundTaskOptions): Task {
  const { name, options } = method;
  if (own.name !== undefined) {
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_INVALID_OPTION',
      `The option \`name\` of addTask() cannot be used with the @BackgroundTask("${name}") method, which has a name; leave the option out`,
    );
  }
  const { timeout = options.timeout, runOn = options.runOn, flush = options.flush } = own;
  const taskOptions: BackgroundTaskOptions = { ...own, timeout, runOn, flush };
  return new Task(func, args, taskOptions satisfies TaskOptions, new NamedCall(method, { flush, own: ownEngineOptions(own) }));
}

/** The options that only `@BackgroundTask()` methods accept. */
function ownEngineOptions(options: BackgroundTaskOptions): EngineCallOptions {
  if (options === NO_OPTIONS) return NO_OPTIONS as EngineCallOptions;
  return { ...engineOptionsOf(options), ...(options.flush && { flush: options.flush }) };
}

type Class = abstract new (...args: never[]) => object;

/**
 * Makes one export with two roles: `new Name()` creates an instance of the class, `@Name()` decorates.
 *
 * It is a plain function that delegates, not a `Proxy`: Nest defines metadata (the scope) on it and has to find it there, and
 * `instance.constructor` must be the injection token.
 */
export function classAndDecorator<Both extends Class>(
  target: Class,
  name: string,
  decorator: (...args: never[]) => unknown,
  make: (...args: never[]) => object,
): Both {
  function both(...args: never[]): unknown {
    if (!new.target) return decorator(...args);
    const instance = make(...args);
    // For a subclass. `Reflect.construct` would do this, too, but is a hundred times slower.
    return new.target === both ? instance : Object.setPrototypeOf(instance, new.target.prototype);
  }
  Object.setPrototypeOf(both, target);
  Object.defineProperties(both, { name: { value: name }, prototype: { value: target.prototype } });
  Object.defineProperty(target.prototype, 'constructor', { value: both, configurable: true, writable: true });
  // TypeScript cannot express a function that is turned into a class by hand.
  return both as unknown as Both;
}
