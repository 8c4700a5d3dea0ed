import { types } from 'node:util';
import { inOneLine, nameOf } from '../task/describe.js';
import { BackgroundTasksError } from '../task/errors.js';
import { describeArgument } from '../task/validation.js';

/**
 * The arguments of a task as JSON that parses to equal values.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK`, with the path of a value that JSON would change or lose.
 */
export function jsonSnapshot(task: string, args: readonly unknown[]): string {
  // JSON has no `undefined`. As a last argument it would become null, and the method's default value would not apply.
  const last = args.findLastIndex((arg) => arg !== undefined);
  const given = args.slice(0, last + 1);
  given.forEach((arg, index) => check(task, arg, `args[${index}]`, []));
  return JSON.stringify(given);
}

/**
 * The result of the option `carry`, as JSON. `carry` is called at once, and may return a promise.
 *
 * @throws The error of `carry`; BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` for a result that is not JSON.
 */
export async function carriedJson(task: string, carry: () => unknown): Promise<string | undefined> {
  const carried = await carry();
  if (carried === undefined) return undefined;
  check(task, carried, 'carry()', []);
  return JSON.stringify(carried);
}

/** The maximum depth of nested objects. JSON itself fails at some thousands, depending on the stack. */
const MAX_DEPTH = 500;

/** The number of characters of a path in an error. */
const MAX_PATH_LENGTH = 200;

/** @param parents the objects that contain the value */
function check(task: string, value: unknown, path: string, parents: object[]): void {
  // JSON has no negative zero.
  if (typeof value === 'number' ? Number.isFinite(value) && !Object.is(value, -0) : isScalar(value)) return;
  if (typeof value !== 'object' || value === null || !isPlain(value)) throw notJson(task, path, `got ${instanceOf(value)}`);
  if (parents.includes(value)) throw notJson(task, path, 'got an object that contains itself');
  if (parents.length === MAX_DEPTH) throw notJson(task, path, `got more than ${MAX_DEPTH} levels of nested objects`);
  parents.push(value);
  if (Array.isArray(value)) {
    // A loop by index, as `forEach` skips holes.
    for (let index = 0; index < value.length; index++) check(task, value[index], `${path}[${index}]`, parents);
  } else {
    for (const [key, property] of Object.entries(value)) {
      // JSON leaves out a property that is undefined, which makes no difference.
      if (property !== undefined) check(task, property, `${path}${step(key)}`, parents);
    }
  }
  parents.pop();
  if (Reflect.ownKeys(value).length !== writtenKeys(value))
    throw notJson(task, path, `got ${describeArgument(value)} with keys that JSON leaves out`);
}

/** Names the class of an instance, and the value to pass instead. */
function instanceOf(value: unknown): string {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Promise) return describeArgument(value);
  if (types.isDate(value)) return 'an instance of Date: pass `date.toISOString()`, and call `new Date()` with it in the task';
  const name = classNameOf(value);
  const which = name === undefined ? 'an instance of a class' : `an instance of ${inOneLine(name)}`;
  if (typeof Reflect.get(value, 'toJSON') === 'function') return `${which}: pass the result of its \`toJSON()\``;
  return `${which}: pass its plain fields, such as \`{ ...value }\``;
}

function classNameOf(value: object): string | undefined {
  const { constructor } = value;
  const name = typeof constructor === 'function' ? nameOf(constructor) : 'anonymous';
  return name === 'anonymous' ? undefined : name;
}

function isScalar(value: unknown): boolean {
  return value === null || typeof value === 'string' || typeof value === 'boolean';
}

/** The number of own keys of a value if JSON writes all of them. An array has its indices and its length. */
function writtenKeys(value: object): number {
  return Array.isArray(value) ? value.length + 1 : Object.keys(value).length;
}

/** True for an array or a plain object. An instance of a class would lose its class, and a Date would become a string. */
function isPlain(value: object): boolean {
  const prototype: object | null = Object.getPrototypeOf(value);
  // Prototypes are recognised by their shape, not by identity, as there may be several realms. `Array.prototype` is an array itself, and
  // `Object.prototype` has no prototype.
  if (Array.isArray(value)) return Array.isArray(prototype);
  return prototype === null || (Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, 'isPrototypeOf'));
}

function step(key: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}

function notJson(task: string, path: string, got: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `Expected ${shortened(path)} of background task "${task}" to survive JSON on its way to the engine, ${got}; ` +
      'pass strings, finite numbers, booleans, null, and arrays and plain objects of these, such as an id to load the rest',
  );
}

function shortened(path: string): string {
  return path.length > MAX_PATH_LENGTH ? `${path.slice(0, MAX_PATH_LENGTH)}…` : path;
}
