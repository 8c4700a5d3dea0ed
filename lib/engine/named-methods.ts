import type { AnyFunction } from '../task/background-task.js';
import { BackgroundTasksError } from '../task/errors.js';
import { invalid } from '../task/validation.js';
import { type NamedTaskOptions, checkNamedTaskOptions } from './options.js';

/** A method decorated with `@BackgroundTask()`. */
export interface NamedMethod {
  /** The name of the task in the queue, in logs and in errors. */
  readonly name: string;
  readonly options: Readonly<NamedTaskOptions>;
  /** The class, or its superclass, that declares the method. */
  readonly prototype: object;
  readonly key: PropertyKey;
}

const methodsByPrototype = new WeakMap<object, NamedMethod[]>();
const methodsByFunction = new WeakMap<AnyFunction, NamedMethod>();
/** Methods whose class may still be being defined: a decorator above ours may replace the function. */
const fresh: NamedMethod[] = [];

/** `@BackgroundTask()`: with a name, with options, or with both. */
export function decorateMethod(first?: string | NamedTaskOptions, second?: NamedTaskOptions): MethodDecorator {
  assertParentheses(first, second);
  const isNamed = typeof first !== 'object' || first === null || second !== undefined;
  const name = isNamed ? checkName(first) : undefined;
  const options = checkNamedTaskOptions((isNamed ? second : first) ?? {});
  return (prototype, key, descriptor: PropertyDescriptor | number | undefined) => {
    if (typeof descriptor === 'number') throw onParameter(prototype, key);
    if (typeof prototype === 'function') {
      throw invalid('BACKGROUND_TASK_INVALID_TASK', `@BackgroundTask() ${String(key)}`, 'a method of an instance', prototype);
    }
    if (descriptor?.get || descriptor?.set) throw accessor(key);
    declare({ name: name ?? `${prototype.constructor.name}.${String(key)}`, options, prototype, key });
  };
}

function checkName(name: unknown): string | undefined {
  if (name === undefined || isKey(name)) return name;
  throw invalid('BACKGROUND_TASK_INVALID_OPTION', 'the name of @BackgroundTask()', 'a non-empty string', name);
}

function isKey(name: unknown): name is string {
  return typeof name === 'string' && name !== '';
}

/** Without its parentheses, which the types forbid, the decorator is called with the method itself. */
function assertParentheses(prototype: unknown, key: unknown): void {
  if (typeof key !== 'string' && typeof key !== 'symbol') return;
  throw new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `@BackgroundTask is missing its parentheses on the method ${String(key)} of ${(prototype as object).constructor.name}: write @BackgroundTask()`,
  );
}

/** TypeScript calls the decorator of a parameter with its index. */
function onParameter(target: object, key: PropertyKey | undefined): BackgroundTasksError {
  const owner = typeof target === 'function' ? target : target.constructor;
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `@BackgroundTask() is for methods, but is used on a parameter of ${owner.name}${key === undefined ? '' : `.${String(key)}`}: ` +
      'write `@BackgroundTasks() tasks: BackgroundTasks`, in the plural, for the list of the request',
  );
}

function accessor(key: PropertyKey): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `Expected @BackgroundTask() ${String(key)} to be a method of an instance, got an accessor`,
  );
}

function declare(method: NamedMethod): void {
  const siblings = methodsByPrototype.get(method.prototype);
  if (siblings) siblings.push(method);
  else methodsByPrototype.set(method.prototype, [method]);
  fresh.push(method);
}

/** The class that declares a method. */
export function classOf(method: NamedMethod): string {
  return method.prototype.constructor.name;
}

/** The named method of a function, found on its prototype or on a provider's instance. */
export function namedMethodOf(func: AnyFunction): NamedMethod | undefined {
  for (let method = fresh.pop(); method; method = fresh.pop()) remember(method, method.prototype);
  return methodsByFunction.get(func);
}

/** The named methods of an instance, including inherited ones, and those that it replaces. */
export function namedMethodsOf(instance: object, replaced: Iterable<NamedMethod>): NamedMethod[] {
  const methods = new Set([...replaced, ...declaredBy(Object.getPrototypeOf(instance))]);
  // An override without the decorator, or a function that the constructor assigned to the instance, counts as the method, too.
  for (const method of methods) remember(method, instance);
  return [...methods];
}

/** The named methods that instances of a class have. */
export function declaredBy(prototype: object | null): NamedMethod[] {
  const methods = new Map<PropertyKey, NamedMethod>();
  for (let link = prototype; link; link = Object.getPrototypeOf(link)) {
    for (const method of methodsByPrototype.get(link) ?? []) if (!methods.has(method.key)) methods.set(method.key, method);
  }
  return [...methods.values()];
}

function remember(method: NamedMethod, owner: object): void {
  const func: unknown = Reflect.get(owner, method.key);
  if (typeof func === 'function') methodsByFunction.set(func as AnyFunction, method);
}
