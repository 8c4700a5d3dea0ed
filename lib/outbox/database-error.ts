import { BackgroundTasksError } from '../task/errors.js';
import { isError } from '../task/describe.js';

/** A statement as it was sent. Libraries put it into the messages of their errors, with the parameters: the arguments of tasks. */
export interface Sent {
  readonly sql: string;
  readonly parameters: readonly string[];
}

/** An error of the database, or of the library for it. */
export interface DatabaseError {
  /** The words of the database, without what it was sent. */
  readonly reason: string;
  /** The SQLSTATE of Postgres, or the number of an error of MySQL. */
  readonly codes: ReadonlySet<string>;
  /** The error of the library, which has lost what was sent. `undefined` for one that cannot be changed. */
  readonly error: unknown;
}

/** An outbox cannot do its work. */
export class OutboxError extends BackgroundTasksError {
  constructor(
    message: string,
    override readonly cause?: unknown,
  ) {
    super('BACKGROUND_TASK_OUTBOX', message);
  }
}

/** How many errors within each other are looked at. */
const MOST_ERRORS = 10;
/** The properties of an error that hold another one. */
const WITHIN = ['cause', 'driverError', 'previous', 'original', 'meta', 'driverAdapterError'] as const;
/** The properties of an error that have nothing of what was sent. */
const KEPT: ReadonlySet<PropertyKey> = new Set<PropertyKey>(
  [
    WITHIN,
    ['name', 'message', 'stack', 'code', 'originalCode', 'errno', 'sqlState', 'severity', 'schema', 'table', 'column', 'constraint'],
    ['routine', 'kind', 'syscall', 'address', 'port', 'clientVersion'],
  ].flat(),
);

/** Reads an error, and takes away from it what was sent: in place, so that a caller who looks at its class or its code still knows it. */
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

/** The error, and those within it. */
function errorsIn(error: unknown): object[] {
  const found: object[] = [];
  const add = (value: unknown): void => {
    if (typeof value === 'object' && value !== null && !found.includes(value) && found.length < MOST_ERRORS) found.push(value);
  };
  add(error);
  // The array grows meanwhile.
  for (const one of found) for (const key of WITHIN) add(Reflect.get(one, key));
  return found;
}

/** The message of an error; of `statement - message`, the second half. `undefined` if something of the statement is left. */
function wordsOf(error: object, { sql, parameters }: Sent): string | undefined {
  const given: unknown = Reflect.get(error, 'sqlMessage') ?? Reflect.get(error, 'message');
  let text = typeof given === 'string' && given !== '' ? given : String(Reflect.get(error, 'code') ?? '');
  const [, tail = ''] = /(?:\$1|\?)(?!.*(?:\$1|\?))(.*)$/s.exec(sql) ?? [];
  const end = tail === '' ? -1 : text.lastIndexOf(tail);
  if (end >= 0) text = text.slice(end + tail.length).replace(/^\s*-\s*/, '');
  // Prisma says where it was called, too.
  [, text = text] = /Raw query failed\. Code: .* Message: `(.*)`\s*$/s.exec(text) ?? [];
  const isClean = !text.includes(sql.slice(0, 20)) && !parameters.some((parameter) => parameter !== '' && text.includes(parameter));
  return isClean && text.trim() !== '' ? text : undefined;
}

/** Returns false for an error that keeps what it has, such as one that is frozen. */
function clean(error: Error, message: string): boolean {
  try {
    const frames = String(error.stack)
      .split('\n')
      .filter((line) => /^\s+at /.test(line));
    const isRid = Reflect.ownKeys(error).every((key) => KEPT.has(key) || Reflect.deleteProperty(error, key));
    error.message = message;
    error.stack = [`${error.name}: ${message}`, ...frames].join('\n');
    return isRid;
  } catch {
    return false;
  }
}
