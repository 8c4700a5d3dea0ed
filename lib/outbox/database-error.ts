import { BackgroundTasksError } from '../task/errors.js';
import { isError } from '../task/describe.js';

/** A statement as it was sent. Libraries quote it in the messages of their errors, with its parameters, the arguments of tasks. */
export interface Sent {
  readonly sql: string;
  readonly parameters: readonly string[];
}

/** An error of the database or of its library. */
export interface DatabaseError {
  /** The message of the database, without the data that was sent. */
  readonly reason: string;
  /** SQLSTATEs of Postgres, or error numbers of MySQL. */
  readonly codes: ReadonlySet<string>;
  /** The error of the library, without the data that was sent. `undefined` if it cannot be changed. */
  readonly error: unknown;
}

/** The outbox failed. */
export class OutboxError extends BackgroundTasksError {
  constructor(
    message: string,
    override readonly cause?: unknown,
  ) {
    super('BACKGROUND_TASK_OUTBOX', message);
  }
}

/** The maximum number of nested errors to check. */
const MAX_ERRORS = 10;
/** The properties of an error that may contain another error. */
const WITHIN = ['cause', 'driverError', 'previous', 'original', 'meta', 'driverAdapterError'] as const;
/** The properties of an error that never quote the data that was sent. */
const KEPT: ReadonlySet<PropertyKey> = new Set<PropertyKey>(
  [
    WITHIN,
    ['name', 'message', 'stack', 'code', 'originalCode', 'errno', 'sqlState', 'severity', 'schema', 'table', 'column', 'constraint'],
    ['routine', 'kind', 'syscall', 'address', 'port', 'clientVersion'],
  ].flat(),
);

/** Reads an error, and removes the data that was sent: in place, so that callers still recognise its class and its code. */
export function readError(error: unknown, sent: Sent): DatabaseError {
  const codes = new Set<string>();
  let reason: string | undefined;
  let isCleaned = true;
  for (const one of errorsIn(error)) {
    for (const key of ['code', 'originalCode', 'errno', 'sqlState']) {
      const code: unknown = Reflect.get(one, key);
      if (typeof code === 'string' || typeof code === 'number') codes.add(String(code));
    }
    const text = wordsOf(one, sent);
    if (isError(one) && !clean(one, text ?? 'the database refused a statement')) isCleaned = false;
    reason ??= text;
  }
  return { reason: reason ?? 'an error without a message', codes, error: isCleaned ? error : undefined };
}

/** The error and its nested errors. */
function errorsIn(error: unknown): object[] {
  const found: object[] = [];
  const add = (value: unknown): void => {
    if (typeof value === 'object' && value !== null && !found.includes(value) && found.length < MAX_ERRORS) found.push(value);
  };
  add(error);
  // The array grows while the loop reads it.
  for (const one of found) for (const key of WITHIN) add(Reflect.get(one, key));
  return found;
}

/** The message of an error; if it is `statement - message`, the second half. `undefined` if a part of the statement is left. */
function wordsOf(error: object, { sql, parameters }: Sent): string | undefined {
  const given: unknown = Reflect.get(error, 'sqlMessage') ?? Reflect.get(error, 'message');
  let text = typeof given === 'string' && given !== '' ? given : String(Reflect.get(error, 'code') ?? '');
  const [, tail = ''] = /(?:\$1|\?)(?!.*(?:\$1|\?))(.*)$/s.exec(sql) ?? [];
  const end = tail === '' ? -1 : text.lastIndexOf(tail);
  if (end >= 0) text = text.slice(end + tail.length).replace(/^\s*-\s*/, '');
  // Prisma adds the place of the call.
  [, text = text] = /Raw query failed\. Code: .* Message: `(.*)`\s*$/s.exec(text) ?? [];
  const isClean = !text.includes(sql.slice(0, 20)) && !parameters.some((parameter) => parameter !== '' && text.includes(parameter));
  return isClean && text.trim() !== '' ? text : undefined;
}

/** Removes the data that was sent from an error. Returns false if it cannot be changed, for example because it is frozen. */
function clean(error: Error, message: string): boolean {
  try {
    const frames = String(error.stack)
      .split('\n')
      .filter((line) => /^\s+at /.test(line));
    const isClean = Reflect.ownKeys(error).every((key) => KEPT.has(key) || Reflect.deleteProperty(error, key));
    error.message = message;
    error.stack = [`${error.name}: ${message}`, ...frames].join('\n');
    return isClean;
  } catch {
    return false;
  }
}
