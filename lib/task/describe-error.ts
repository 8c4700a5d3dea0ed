import { inspect, types } from 'node:util';

/** How deep causes are followed, and how many errors of one are told of. */
const MOST_CAUSES = 5;

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
    return typeof func.name === 'string' && func.name !== '' ? func.name : 'anonymous';
  } catch {
    return 'anonymous';
  }
}

export function messageOf(error: unknown): string {
  try {
    return isError(error) ? String(error.message) : inspect(error, { depth: 1 });
  } catch {
    return 'an error that cannot be printed';
  }
}

/** The stack of an error, with those of its causes, and of the errors that it gathers. */
export function stackOf(error: unknown, depth = 0): string | undefined {
  try {
    if (!isError(error) || error.stack === undefined) return undefined;
    if (depth === MOST_CAUSES) return error.stack;
    const gathered: unknown = 'errors' in error ? error.errors : [];
    const causes = [error.cause, ...(Array.isArray(gathered) ? gathered.slice(0, MOST_CAUSES) : [])].filter((cause) => cause !== undefined);
    return [error.stack, ...causes.map((cause) => `  [cause]: ${stackOf(cause, depth + 1) ?? messageOf(cause)}`)].join('\n');
  } catch {
    return undefined;
  }
}

/** Also of another realm: under Jest, for one, Node's own errors are no instances of `Error`. A `DOMException`, in turn, is no native error. */
export function isError(value: unknown): value is Error {
  return types.isNativeError(value) || value instanceof Error;
}
