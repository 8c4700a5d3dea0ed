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

function check(task: string, value: unknown, path: string, inside: readonly object[]): void {
  if (value === null || typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)) return;
  if (typeof value !== 'object' || !isPlain(value)) throw notJson(task, path, `got ${describeArgument(value)}`);
  if (inside.includes(value)) throw notJson(task, path, 'got an object that contains itself');
  const within = [...inside, value];
  if (Array.isArray(value)) {
    // A loop by index: `forEach` skips the holes.
    for (let index = 0; index < value.length; index++) check(task, value[index], `${path}[${index}]`, within);
    return;
  }
  for (const [key, property] of Object.entries(value)) {
    // Left out, and then read as undefined.
    if (property !== undefined)
      check(task, property, `${path}${/^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`}`, within);
  }
}

/** Whether an object is an array or a literal: an instance of a class would come back without its class, a Date as a string. */
function isPlain(value: object): boolean {
  const prototype: object | null = Object.getPrototypeOf(value);
  // By shape, and not by identity, as there may be several realms: what has no prototype of its own is the root of all objects.
  return (
    Array.isArray(value) || prototype === null || (Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, 'isPrototypeOf'))
  );
}

function notJson(task: string, path: string, got: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_TASK',
    `Expected ${path} of background task "${task}" to survive JSON, on the way to its engine, ${got}; ` +
      'pass text, finite numbers, booleans, null, and arrays and plain objects of these, such as an id to load the rest by',
  );
}
