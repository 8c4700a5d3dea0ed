import { inspect, types } from 'node:util';

// A task may throw anything, such as an error whose properties throw themselves: none of these does.

/** What errors are counted under: their name, or what OpenTelemetry has for a value that is no error. */
export function typeOf(error: unknown): string {
  try {
    return isError(error) ? String(error.name) : '_OTHER';
  } catch {
    return '_OTHER';
  }
}

export function messageOf(error: unknown): string {
  try {
    return isError(error) ? String(error.message) : inspect(error, { depth: 1 });
  } catch {
    return 'an error that cannot be printed';
  }
}

export function stackOf(error: unknown): string | undefined {
  try {
    return isError(error) ? error.stack : undefined;
  } catch {
    return undefined;
  }
}

/** Also of another realm: under Jest, for one, Node's own errors are no instances of `Error`. A `DOMException`, in turn, is no native error. */
export function isError(value: unknown): value is Error {
  return types.isNativeError(value) || value instanceof Error;
}
