import { inspect, types } from 'node:util';

/** How deep causes are followed, how many errors of one are told of, and how many in all. */
const [MOST_CAUSES, MOST_ERRORS] = [5, 20];
/** The characters that are written of a message, of a stack with those of its causes, and of a name. */
const [LONGEST_MESSAGE, LONGEST_STACK, LONGEST_NAME] = [2_000, 4_000, 200];

// A task may throw anything, such as an error whose properties throw themselves: none of these does.

/** What errors are counted under: their name, or what OpenTelemetry has for a value that is no error. */
export function typeOf(error: unknown): string {
  try {
    return isError(error) ? String(error.name) : '_OTHER';
  } catch {
    return '_OTHER';
  }
}

/** The name of a function; one may have any value for its `name`. */
export function nameOf(func: { readonly name: unknown }): string {
  try {
    // Read once: V8 calls into C++ for it, a tenth of what a task that does nothing takes.
    const { name } = func;
    return typeof name === 'string' && name !== '' ? name : 'anonymous';
  } catch {
    return 'anonymous';
  }
}

export function messageOf(error: unknown): string {
  try {
    return bounded(isError(error) ? textOf(error) : inspect(error, { depth: 1 }), LONGEST_MESSAGE);
  } catch {
    return 'an error that cannot be printed';
  }
}

/** Node's error for a host that refuses on all its addresses has a code, and no message. */
function textOf(error: Error): string {
  return String(error.message) || String('code' in error ? error.code : error.name);
}

/** The stack of an error, with those of its causes, and of the errors that it gathers. */
export function stackOf(error: unknown): string | undefined {
  const stack = stackWithCauses(error, 0, new Set());
  return stack && bounded(stack, LONGEST_STACK);
}

/** Each error once: they may hold each other. */
function stackWithCauses(error: unknown, depth: number, seen: Set<unknown>): string | undefined {
  try {
    if (!isError(error) || error.stack === undefined) return undefined;
    seen.add(error);
    if (depth === MOST_CAUSES) return error.stack;
    const gathered: unknown = 'errors' in error ? error.errors : [];
    const causes = [error.cause, ...(Array.isArray(gathered) ? gathered.slice(0, MOST_CAUSES) : [])];
    const lines = [error.stack];
    for (const cause of causes) {
      if (cause === undefined || seen.has(cause) || seen.size === MOST_ERRORS) continue;
      lines.push(`  [cause]: ${stackWithCauses(cause, depth + 1, seen) ?? messageOf(cause)}`);
    }
    return lines.join('\n');
  } catch {
    return undefined;
  }
}

/** A name in quotes, so that it stays on its line and says where it ends, whatever is in it. */
export function quoted(name: string): string {
  return `"${inOneLine(name.replaceAll(/["\\]/g, String.raw`\$&`))}"`;
}

/** Other text, on one line: control characters, and those that change the direction of text, are written as JSON writes them. */
export function inOneLine(text: string): string {
  const shown = text.length > LONGEST_NAME ? `${text.slice(0, LONGEST_NAME)}…` : text;
  return shown.replaceAll(/[\p{Cc}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu, (character) =>
    character < ' ' ? JSON.stringify(character).slice(1, -1) : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function bounded(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most)}… (${text.length - most} more characters)` : text;
}

/** Also of another realm: under Jest, for one, Node's own errors are no instances of `Error`. A `DOMException`, in turn, is no native error. */
export function isError(value: unknown): value is Error {
  return types.isNativeError(value) || value instanceof Error;
}

/** How many names a line about many tasks has. */
const MOST_NAMES = 10;

/** The names of many tasks, each with the number of tasks that have it. */
export function countedNames(names: ReadonlyMap<string, number>): string {
  return listed([...names].toSorted(([, a], [, b]) => b - a).map(([name, count]) => `${quoted(name)} (${count})`));
}

/** The names of many tasks. */
export function listedNames(names: ReadonlySet<string>): string {
  return listed([...names].map(quoted));
}

function listed(names: readonly string[]): string {
  const others = names.length - MOST_NAMES;
  const shown = names.slice(0, MOST_NAMES);
  if (others > 0) shown.push(`and ${others} other name${others === 1 ? '' : 's'}`);
  return shown.join(', ');
}

/** What drivers put on their errors of what they were sent: ioredis' command, and the fields of Postgres that quote a statement, a row or a value. */
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
 * An error of a driver without what the driver was sent: the arguments of tasks. Its class, message, code and stack stay, as do its causes and
 * the errors that it gathers, which lose the same.
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
    // An error whose properties throw has nothing that can be printed.
  }
  return error;
}
