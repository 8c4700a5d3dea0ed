import type { AnyFunction } from '../task/background-task.js';
import { type Expectation, invalid, milliseconds } from '../task/validation.js';

/** Keeps an engine from having a task several times: while it has a task with a key, further tasks with that key come to nothing. */
export interface DeduplicationOptions {
  /** The key among the tasks of this method, or what makes it of the task's arguments, in `addTask`. */
  id: string | ((...args: never[]) => string);
  /** Milliseconds for which a key is taken. @default until its task has ended */
  ttl?: number | undefined;
  /** Whether each further task of the key starts the milliseconds again. @default false */
  extend?: boolean | undefined;
  /** Whether another task of the key takes the place of one that still waits for its `delay`. @default false */
  replace?: boolean | undefined;
}

/** The same for one task: its key is known. */
export interface Deduplication extends DeduplicationOptions {
  id: string;
}

const isFlag = (value: unknown): boolean => value === undefined || typeof value === 'boolean';
const isTtl = (value: unknown): boolean => value === undefined || milliseconds(1).accepts(value);

export const DEDUPLICATION: Expectation = {
  expected: '{ id: a key or a function that returns one, ttl?: milliseconds, extend?: boolean, replace?: boolean }',
  accepts(value) {
    if (typeof value !== 'object' || value === null) return false;
    const { id, ttl, extend, replace, ...others } = value as Record<string, unknown>;
    return (isKey(id) || typeof id === 'function') && isTtl(ttl) && isFlag(extend) && isFlag(replace) && Object.keys(others).length === 0;
  },
};

function isKey(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

/** @throws What the function for the key throws, and BackgroundTasksError `INVALID_TASK` if that returns none. */
export function deduplicationOf(task: string, { id, ...options }: DeduplicationOptions, args: readonly unknown[]): Deduplication {
  // The decorator cannot know the types of the method's parameters.
  const key: unknown = typeof id === 'function' ? (id as AnyFunction)(...(args as never[])) : id;
  if (!isKey(key))
    throw invalid('INVALID_TASK', `what \`deduplication.id\` of @BackgroundTask("${task}") returns`, 'a non-empty string', key);
  // Methods share a queue.
  return { ...options, id: `${task}:${key}` };
}
