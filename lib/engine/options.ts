import type { AnyFunction, RunOn, TaskOptions } from '../task/background-task.js';
import { storable } from '../task/describe.js';
import { BackgroundTasksError } from '../task/errors.js';
import {
  type Expectation,
  type Expectations,
  FUNCTION,
  invalid,
  milliseconds,
  oneOf,
  RUN_ON,
  TASK_EXPECTATIONS,
  TIMEOUT,
  validated,
} from '../task/validation.js';
import {
  type BackgroundTasksEngine,
  type Deduplication,
  type DeduplicationOptions,
  type EngineMethodOptions,
  type EngineTaskOptions,
  MAX_FLUSH_MS,
} from './engine.js';
import type { BackgroundTasksOutbox } from './outbox.js';

/** When an engine gets the tasks of a request: before the client has the answer, or after the response. */
export type FlushMode = 'before-response' | 'after-response';

/**
 * Options of one task: `tasks.addTask({ name: 'welcome-mail' }, sendMail, address)`.
 *
 * Options that need an engine are for `@BackgroundTask()` methods only, and override those of the method. Types cannot distinguish such a
 * method from other functions: `addTask` throws `BACKGROUND_TASK_INVALID_TASK` for any other function, and `BACKGROUND_TASK_INVALID_OPTION`
 * without an engine.
 */
export interface BackgroundTaskOptions extends TaskOptions, EngineTaskOptions {
  /** When an engine gets the task. For `@BackgroundTask()` methods only. @default the method's `flush`, or the module's */
  flush?: FlushMode | undefined;
}

/** The options of one call that only `@BackgroundTask()` methods accept. */
export type EngineCallOptions = Readonly<Omit<BackgroundTaskOptions, keyof TaskOptions>>;

/** The options for the engine of an application. */
export interface EngineOptions {
  /**
   * The engine for `@BackgroundTask()` methods, such as `bullmqEngine()` of `nestjs-background-tasks/bullmq`. @default none: they run in
   * process
   */
  engine?: BackgroundTasksEngine | undefined;
  /**
   * Called in `addTask` for each task that goes to the engine. Its result, JSON or a promise of JSON, is `task.carried` in the worker: for
   * example a tenant and a user, whose context `around` can enter there. It is stored with the job, where everyone with access to the queue
   * can read it: do not carry secrets.
   *
   * If it throws, the flush fails, and its tasks are discarded. Under `flush: 'before-response'` the request fails as well. @default none
   */
  carry?: (() => unknown) | undefined;
  /**
   * Stores the tasks of a transaction from its COMMIT until the engine has them, for example `sqlOutbox()` of
   * `nestjs-background-tasks/outbox`. Needs an engine. @default none: the engine gets the tasks of a transaction after its COMMIT, and a
   * crash in between loses them
   */
  outbox?: BackgroundTasksOutbox | undefined;
  /** When the engine gets the tasks of a request. @default 'before-response': the answer is sent only after the engine has them */
  flush?: FlushMode | undefined;
  /** Time for the engine to accept the tasks of a request, in ms, including all retries; at most 300000. @default 5000 */
  flushTimeout?: number | undefined;
}

export interface ResolvedEngineOptions {
  readonly engine: BackgroundTasksEngine | undefined;
  readonly carry: (() => unknown) | undefined;
  readonly outbox: BackgroundTasksOutbox | undefined;
  readonly flush: FlushMode;
  readonly flushTimeout: number;
}

export const ENGINE_DEFAULTS: ResolvedEngineOptions = {
  engine: undefined,
  carry: undefined,
  outbox: undefined,
  flush: 'before-response',
  flushTimeout: 5_000,
};

const FLUSH = oneOf('before-response', 'after-response');

export const ENGINE_EXPECTATIONS: Expectations<EngineOptions> = {
  engine: {
    expected: 'an engine, such as `bullmqEngine({ … })`',
    accepts: (value) => typeof value === 'object' && value !== null && 'enqueue' in value,
  },
  carry: FUNCTION,
  outbox: {
    expected: 'an outbox, such as `sqlOutbox(…)`',
    accepts: (value) => typeof value === 'object' && value !== null && 'save' in value && 'lease' in value,
  },
  flush: FLUSH,
  flushTimeout: milliseconds(1, MAX_FLUSH_MS),
};

/** Options of `@BackgroundTask(name, options)`. */
export interface NamedTaskOptions extends EngineMethodOptions {
  /** Time after which one attempt is aborted, in ms: its signal fires. @default the module's `timeout` */
  timeout?: number | undefined;
  /** The outcome of the request that makes the task run. On any other outcome it is discarded. @default the module's `runOn` */
  runOn?: RunOn | undefined;
  /** When an engine gets the task. Needs an engine. @default the module's `flush` */
  flush?: FlushMode | undefined;
  /**
   * If true, the first transaction that a run of the task opens also marks the task as done. The writes of that transaction are made once,
   * however often a worker dies. Needs an outbox. @default false
   */
  once?: boolean | undefined;
}

const POSITIVE_INTEGER: Expectation = {
  expected: 'a positive integer',
  accepts: (value) => Number.isInteger(value) && Number(value) > 0,
};
const isMilliseconds = milliseconds(0).accepts;
const isFlag = (value: unknown): boolean => value === undefined || typeof value === 'boolean';
const isTtl = (value: unknown): boolean => value === undefined || milliseconds(1).accepts(value);
const isKey = (value: unknown): value is string => typeof value === 'string' && value !== '';

const ENGINE_TASK_EXPECTATIONS: Expectations<EngineTaskOptions> = {
  attempts: POSITIVE_INTEGER,
  backoff: { expected: "milliseconds or { type: 'fixed' | 'exponential', delay: milliseconds }", accepts: isBackoff },
  delay: milliseconds(0),
  priority: POSITIVE_INTEGER,
  deduplication: {
    expected: '{ id: a key or a function that returns one, ttl?: milliseconds, extend?: boolean, replace?: boolean }',
    accepts: isDeduplication,
  },
};

export const BACKGROUND_TASK_EXPECTATIONS: Expectations<BackgroundTaskOptions> = {
  ...TASK_EXPECTATIONS,
  ...ENGINE_TASK_EXPECTATIONS,
  flush: FLUSH,
};

const METHOD_EXPECTATIONS: Expectations<EngineMethodOptions> = {
  ...ENGINE_TASK_EXPECTATIONS,
  queue: { expected: 'a non-empty string', accepts: isKey },
};

const NAMED_TASK_EXPECTATIONS: Expectations<NamedTaskOptions> = {
  ...METHOD_EXPECTATIONS,
  timeout: TIMEOUT,
  runOn: RUN_ON,
  flush: FLUSH,
  once: { expected: 'true or false', accepts: (value) => typeof value === 'boolean' },
};

function isBackoff(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return isMilliseconds(value);
  const { type, delay, ...others } = value as Record<string, unknown>;
  return (type === 'fixed' || type === 'exponential') && isMilliseconds(delay) && Object.keys(others).length === 0;
}

function isDeduplication(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { id, ttl, extend, replace, ...others } = value as Record<string, unknown>;
  return (isKey(id) || typeof id === 'function') && isTtl(ttl) && isFlag(extend) && isFlag(replace) && Object.keys(others).length === 0;
}

/**
 * Checks the options of `@BackgroundTask()`, and returns those that are set.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function checkNamedTaskOptions(options: unknown): NamedTaskOptions {
  return validated<NamedTaskOptions>('@BackgroundTask()', options, NAMED_TASK_EXPECTATIONS);
}

/** The options that need an engine. */
export function engineOptionsOf(options: EngineMethodOptions): EngineMethodOptions {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(METHOD_EXPECTATIONS, name)));
}

/** @throws The error of the function for the key; BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` if it returns no key. */
export function deduplicationOf(task: string, { id, ...options }: DeduplicationOptions, args: readonly unknown[]): Deduplication {
  // The decorator cannot know the types of the method's parameters.
  const key: unknown = typeof id === 'function' ? (id as AnyFunction)(...(args as never[])) : id;
  if (!isKey(key))
    throw invalid(
      'BACKGROUND_TASK_INVALID_TASK',
      `the result of \`deduplication.id\` of background task "${task}"`,
      'a non-empty string',
      key,
    );
  // The error does not quote the key, which may come from the arguments.
  if (storable(key) !== key)
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_INVALID_TASK',
      `Expected the result of \`deduplication.id\` of background task "${task}" to be valid Unicode without NUL, which Postgres cannot store`,
    );
  // The prefix is needed as several methods share a queue. Without a colon of its own, it ends at the first one.
  return { ...options, id: `${task.replaceAll(/[%:]/g, encodeURIComponent)}:${key}` };
}

/** The error for an option that needs an engine. */
export function needsEngine(option: string, owner: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_OPTION',
    `The option \`${option}\` of ${owner} needs an engine, as a crash of this process would lose it: ` +
      'configure `engine` in BackgroundTasksModule.forRoot(), or leave the option out',
  );
}

/** The error for `once` without an outbox. */
export function needsOutbox(task: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_OPTION',
    `The option \`once\` of @BackgroundTask("${task}") needs an outbox, which stores the done tasks: configure \`outbox\` in ` +
      'BackgroundTasksModule.forRoot(), also in workers, or leave the option out',
  );
}
