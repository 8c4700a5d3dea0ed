import { inspect, types } from 'node:util';

/** The maximum depth of causes, also used as the maximum number of errors shown inside one error, and the maximum number in all. */
const [MAX_CAUSES, MAX_ERRORS] = [5, 20];
/** The maximum number of characters of a message, of a stack with those of its causes, and of a name. */
const [MAX_MESSAGE, MAX_STACK, MAX_NAME] = [2_000, 4_000, 200];

// A task may throw anything, including an error whose properties throw. The functions below never throw.

/** The type under which errors are counted: their name, or OpenTelemetry's `_OTHER` for a value that is not an error. */
export function typeOf(error: unknown): string {
  try {
    return isError(error) ? String(error.name) : '_OTHER';
  } catch {
    return '_OTHER';
  }
}

/** The name of a function. Its property `name` may have any value. */
export function nameOf(func: { readonly name: unknown }): string {
  try {
    // Read only once: V8 calls into C++ for it, which takes a tenth of the time of an empty task.
    const { name } = func;
    return typeof name === 'string' && name !== '' ? name : 'anonymous';
  } catch {
    return 'anonymous';
  }
}

export function messageOf(error: unknown): string {
  try {
    return bounded(isError(error) ? textOf(error) : inspect(error, { depth: 1 }), MAX_MESSAGE);
  } catch {
    return 'an error that cannot be printed';
  }
}

/** The message for a line that is followed by the stack: only its first line, if the stack contains all of them. */
export function headlineOf(error: unknown): string {
  try {
    if (isError(error) && error.message.includes('\n') && error.stack?.includes(error.message)) {
      const line = error.message.split('\n').find((text) => text.trim() !== '');
      if (line !== undefined) return bounded(`${line.trim()} …`, MAX_MESSAGE);
    }
  } catch {
    // An error whose properties throw.
  }
  return messageOf(error);
}

/**
 * A copy of an error for a logger that prints all properties: with its class, name, message, code and stack, including the causes. Other
 * properties of drivers' errors may quote what was sent. `undefined` for a value that is not an error.
 */
export function shownError(error: unknown): Error | undefined {
  if (!isError(error)) return undefined;
  try {
    const shown = Object.create(Object.getPrototypeOf(error) as object, {
      message: { value: messageOf(error) },
      stack: { value: stackOf(error) },
    }) as Error;
    for (const key of ['name', 'code']) {
      const value: unknown = Object.hasOwn(error, key) && Reflect.get(error, key);
      const short = typeof value === 'string' ? bounded(value, MAX_NAME) : value;
      if (typeof short === 'string' || typeof short === 'number') Object.defineProperty(shown, key, { value: short, enumerable: true });
    }
    return shown;
  } catch {
    return undefined;
  }
}

/** Node's error for a host that refuses connections on all of its addresses has a code, but no message. */
function textOf(error: Error): string {
  return String(error.message) || String('code' in error ? error.code : error.name);
}

/** The stack of an error, with those of its causes and of the errors that it aggregates. */
export function stackOf(error: unknown): string | undefined {
  const stack = stackWithCauses(error, 0, new Set());
  return stack && bounded(stack, MAX_STACK);
}

/** Includes each error once, as errors may refer to each other. */
function stackWithCauses(error: unknown, depth: number, seen: Set<unknown>): string | undefined {
  try {
    if (!isError(error) || error.stack === undefined) return undefined;
    seen.add(error);
    if (depth === MAX_CAUSES) return error.stack;
    const gathered: unknown = 'errors' in error ? error.errors : [];
    const causes = [error.cause, ...(Array.isArray(gathered) ? gathered.slice(0, MAX_CAUSES) : [])];
    const lines = [error.stack];
    for (const cause of causes) {
      if (cause === undefined || seen.has(cause) || seen.size === MAX_ERRORS) continue;
      lines.push(`  [cause]: ${stackWithCauses(cause, depth + 1, seen) ?? messageOf(cause)}`);
    }
    return lines.join('\n');
  } catch {
    return undefined;
  }
}

/** A name in quotes and on one line, so that its end is clear, whatever it contains. */
export function quoted(name: string): string {
  return `"${inOneLine(name.replaceAll(/["\\]/g, String.raw`\$&`))}"`;
}

/** A text on one line. Control characters, and those that change the direction of text, are escaped as in JSON. */
export function inOneLine(text: string): string {
  const shown = text.length > MAX_NAME ? `${text.slice(0, MAX_NAME)}…` : text;
  return shown.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, (character) =>
    character < ' ' ? JSON.stringify(character).slice(1, -1) : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The characters that Postgres does not store: NUL, and half a pair of surrogates. */
const NOT_STORABLE = /[\0\p{Cs}]/gu;

/** Replaces the characters that a database may refuse. */
export function storable(text: string): string {
  return text.replaceAll(NOT_STORABLE, '\uFFFD');
}

function bounded(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most)}… (${text.length - most} more characters)` : text;
}

/**
 * True for errors of any realm: under Jest, for example, Node's own errors are not instances of `Error`. A `DOMException` is not a native
 * error.
 */
export function isError(value: unknown): value is Error {
  return types.isNativeError(value) || value instanceof Error;
}

/** The maximum number of names in a line about many tasks. */
const MAX_NAMES = 10;

/** The names of many tasks, each with the number of tasks that have it. */
export function countedNames(names: ReadonlyMap<string, number>): string {
  return listed([...names].toSorted(([, a], [, b]) => b - a).map(([name, count]) => `${quoted(name)} (${count})`));
}

/** The names of many tasks. */
export function listedNames(names: ReadonlySet<string>): string {
  return listed([...names].map(quoted));
}

function listed(names: readonly string[]): string {
  const others = names.length - MAX_NAMES;
  const shown = names.slice(0, MAX_NAMES);
  if (others > 0) shown.push(`and ${others} other name${others === 1 ? '' : 's'}`);
  return shown.join(', ');
}

/**
 * The properties of drivers' errors that quote what was sent: ioredis' command, and the Postgres fields with a statement, a row or a value.
 */
const SENT = [
  'command',
  'args',
  'parameters',
  'query',
  'detail',
  'where',
  'internalQuery',
  'hint',
  'previousErrors',
  'lastNodeError',
] as const;

/**
 * Removes the data that was sent, which has the arguments of tasks, from an error of a driver. Its class, message, code and stack stay. Its
 * causes and the errors that it aggregates are cleaned, too.
 */
export function withoutArguments<Value>(error: Value, seen = new Set<unknown>()): Value {
  if (!isError(error) || seen.has(error)) return error;
  seen.add(error);
  try {
    for (const key of SENT) if (Object.hasOwn(error, key)) Reflect.deleteProperty(error, key);
    const { cause, errors } = error as Error & { errors?: unknown };
    withoutArguments(cause, seen);
    if (Array.isArray(errors)) for (const one of errors) withoutArguments(one, seen);
  } catch {
    // An error whose properties throw cannot be printed anyway.
  }
  return error;
}
