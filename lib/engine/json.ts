import { types } from 'node:util';
import { inOneLine, nameOf } from '../task/describe.js';
import { BackgroundTasksError } from '../task/errors.js';
import { describeArgument } from '../task/validation.js';

/**
 * The arguments of a task as JSON, read back as they are.
 *
 * @throws BackgroundTasksError `INVALID_TASK`, with the path of a value that would come back as something else, or not at all.
 */
export function jsonSnapshot(task: string, args: readonly unknown[]): string {
  // JSON has no `undefined`: at the end it would become null, and a default value of the method would not apply.
  const last = args.findLastIndex((arg) => arg !== undefined);
  const given = args.slice(0, last + 1);
  given.forEach((arg, index) => check(task, arg, `args[${index}]`, []));
  return JSON.stringify(given);
}

/**
 * What the option `carry` has for a task, as JSON: `carry` is called at once, and may take its time to answer.
 *
 * @throws What `carry` throws, and BackgroundTasksError `INVALID_TASK` for what is not JSON.
 */
export async function carriedJson(task: string, carry: () => unknown): Promise<string | undefined> {
  const carried = await carry();
  if (carried === undefined) return undefined;
  check(task, carried, 'carry()', []);
  return JSON.stringify(carried);
}

/** Objects within each other. JSON itself gives up at some thousands, depending on the stack. */
const MOST_LEVELS = 500;

/** Characters of a path that an error names. */
const LONGEST_PATH = 200;

/** The objects that `value` is inside of are on the stack `within`. */
function check(task: string, value: unknown, path: string, within: object[]): void {
  // JSON has no negative zero.
  if (typeof value === 'number' ? Number.isFinite(value) && !Object.is(value, -0) : isScalar(value)) return;
  if (typeof value !== 'object' || value === null || !isPlain(value)) throw notJson(task, path, `got ${instanceOf(value)}`);
  if (within.includes(value)) throw notJson(task, path, 'got an object that contains itself');
  if (within.length === MOST_LEVELS) throw notJson(task, path, `got more than ${MOST_LEVELS} objects within each other`);
  within.push(value);
  if (Array.isArray(value)) {
    // A loop by index: `forEach` skips the holes.
    for (let index = 0; index < value.length; index++) check(task, value[index], `${path}[${index}]`, within);
  } else {
    for (const [key, property] of Object.entries(value)) {
      // Left out, and then read as undefined.
      if (property !== undefined) check(task, property, `${path}${step(key)}`, within);
    }
  }
  within.pop();
  if (Reflect.ownKeys(value).length !== writtenKeys(value))
    throw notJson(task, path, `got ${describeArgument(value)} with keys that JSON leaves out`);
}

/** Names the class of an instance, and what to pass in its place. */
function instanceOf(value: unknown): string {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Promise) return describeArgument(value);
  if (types.isDate(value)) return 'an instance of Date: pass `date.toISOString()`, and make a `new Date()` of it in the task';
  const name = classNameOf(value);
  const which = name === undefined ? 'an instance of a class' : `an instance of ${inOneLine(name)}`;
  if (typeof Reflect.get(value, 'toJSON') === 'function') return `${which}: pass what its \`toJSON()\` returns`;
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

/** How many keys an object has if JSON writes all of them, and an array has no others than its indices and its length. */
function writtenKeys(value: object): number {
  return Array.isArray(value) ? value.length + 1 : Object.keys(value).length;
}

/** Whether an object is an array or a literal: an instance of a class would come back without its class, a Date as a string. */
function isPlain(value: object): boolean {
  const prototype: object | null = Object.getPrototypeOf(value);
  // By shape, and not by identity, as there may be several realms: what all arrays inherit from is an array itself, and what has no prototype of
  // its own is the root of all objects.
  if (Array.isArray(value)) return Array.isArray(prototype);
  return prototype === null || (Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, 'isPrototypeOf'));
}

function step(key: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}

function notJson(task: string, path: string, got: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_TASK',
    `Expected ${shortened(path)} of background task "${task}" to survive JSON, on the way to its engine, ${got}; ` +
      'pass text, finite numbers, booleans, null, and arrays and plain objects of these, such as an id to load the rest by',
  );
}

function shortened(path: string): string {
  return path.length > LONGEST_PATH ? `${path.slice(0, LONGEST_PATH)}…` : path;
}
