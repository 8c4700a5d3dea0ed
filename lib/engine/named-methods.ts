import type { AnyFunction } from '../task/background-task.js';
import type { NamedTaskOptions } from './named-task.options.js';

/** A method that `@BackgroundTask()` decorates. */
export interface NamedMethod {
  /** What the queue, logs and errors call the task. */
  readonly name: string;
  readonly options: Readonly<NamedTaskOptions>;
  /** The class, or its superclass, that declares the method. */
  readonly prototype: object;
  readonly key: PropertyKey;
}

/** The class that declares a method. */
export function classOf(method: NamedMethod): string {
  return method.prototype.constructor.name;
}

const declared = new WeakMap<object, NamedMethod[]>();
const known = new WeakMap<AnyFunction, NamedMethod>();
/** Those whose class was still being defined: a decorator above ours may put another function in the place of the one that we were given. */
const fresh: NamedMethod[] = [];

export function declareNamedMethod(method: NamedMethod): void {
  const siblings = declared.get(method.prototype);
  if (siblings) siblings.push(method);
  else declared.set(method.prototype, [method]);
  fresh.push(method);
}

/** The named method that a function is, on its prototype or on an instance that was looked at. */
export function namedMethodOf(func: AnyFunction): NamedMethod | undefined {
  for (let method = fresh.pop(); method; method = fresh.pop()) know(method, method.prototype);
  return known.get(func);
}

/** The named methods that an instance has, inherited ones included, and those that it stands in for. */
export function namedMethodsOf(instance: object, standsInFor: Iterable<NamedMethod>): NamedMethod[] {
  const methods = new Set([...standsInFor, ...declaredBy(Object.getPrototypeOf(instance))]);
  // An override without the decorator, or a function that the constructor put on the instance, is the method all the same.
  for (const method of methods) know(method, instance);
  return [...methods];
}

/** The named methods that instances of a class have. */
export function declaredBy(prototype: object | null): NamedMethod[] {
  const methods = new Map<PropertyKey, NamedMethod>();
  for (let link = prototype; link; link = Object.getPrototypeOf(link)) {
    for (const method of declared.get(link) ?? []) if (!methods.has(method.key)) methods.set(method.key, method);
  }
  return [...methods.values()];
}

function know(method: NamedMethod, owner: object): void {
  const func: unknown = Reflect.get(owner, method.key);
  if (typeof func === 'function') known.set(func as AnyFunction, method);
}
