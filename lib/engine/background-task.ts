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
  if (method) return makeNamedTask(method, func as AnyFunction, rest, options);
  const [option] = Object.keys(ownEngineOptions(options));
  if (option !== undefined) throw invalid('INVALID_TASK', `a task with the option \`${option}\``, 'a @BackgroundTask() method', func);
  return new Task(func as AnyFunction, rest, options);
}

function makeNamedTask(method: NamedMethod, func: AnyFunction, args: unknown[], own: BackgroundTaskOptions): Task {
  const { name, options } = method;
  if (own.name !== undefined) {
    throw new BackgroundTasksError(
      'INVALID_OPTION',
      `The option \`name\` of addTask() does not go with the @BackgroundTask("${name}") method: it has a name`,
    );
  }
  const { timeout = options.timeout, runOn = options.runOn, flush = options.flush } = own;
  const taskOptions: BackgroundTaskOptions = { ...own, timeout, runOn, flush };
  return new Task(func, args, taskOptions satisfies TaskOptions, new NamedCall(method, { flush, own: ownEngineOptions(own) }));
}

/** The options that are for `@BackgroundTask()` methods alone. */
function ownEngineOptions(options: BackgroundTaskOptions): EngineCallOptions {
  if (options === NO_OPTIONS) return NO_OPTIONS as EngineCallOptions;
  return { ...engineOptionsOf(options), ...(options.flush && { flush: options.flush }) };
}

type Class = abstract new (...args: never[]) => object;

/**
 * One export in two roles: `new Name()` makes an instance of the class, `@Name()` decorates.
 *
 * A plain function that delegates, and not a `Proxy`: what Nest defines on it (the scope) must be found on it, and
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
    // For a subclass. `Reflect.construct` would do the same, and takes microseconds where V8 takes a hundredth of them.
    return new.target === both ? instance : Object.setPrototypeOf(instance, new.target.prototype);
  }
  Object.setPrototypeOf(both, target);
  Object.defineProperties(both, { name: { value: name }, prototype: { value: target.prototype } });
  Object.defineProperty(target.prototype, 'constructor', { value: both, configurable: true, writable: true });
  // TypeScript cannot express a function that is made a class by hand.
  return both as unknown as Both;
}
