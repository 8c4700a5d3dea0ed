import type { AnyFunction, RunOn, TaskOptions } from '../task/background-task.js';
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
  LONGEST_FLUSH_MS,
} from './engine.js';
import type { BackgroundTasksOutbox } from './outbox.js';

/** When an engine gets the tasks of a request: before the client has the answer, or once the answer is out. */
export type FlushMode = 'before-response' | 'after-response';

/**
 * Options of one task: `tasks.addTask({ name: 'welcome-mail' }, sendMail, address)`.
 *
 * Those that need an engine are for `@BackgroundTask()` methods alone, and override the method's own. No type can tell such a method from
 * another function: `addTask` throws `INVALID_TASK` for one that is not, and `INVALID_OPTION` without an engine.
 */
export interface BackgroundTaskOptions extends TaskOptions, EngineTaskOptions {
  /** When an engine gets the task. For `@BackgroundTask()` methods alone. @default the method's `flush`, or the module's */
  flush?: FlushMode | undefined;
}

/** Those options of one call that are for `@BackgroundTask()` methods alone. */
export type EngineCallOptions = Readonly<Omit<BackgroundTaskOptions, keyof TaskOptions>>;

/** The engine of an application, and when it gets tasks. */
export interface EngineOptions {
  /** Where `@BackgroundTask()` methods go, such as `bullmqEngine()` of `nestjs-background-tasks/bullmq`. @default none: they run in process */
  engine?: BackgroundTasksEngine | undefined;
  /**
   * Called in `addTask` for each task that goes to the engine. Its result, JSON or a promise of it, is `task.carried` in the worker: a tenant
   * and a user, for example, which `around` enters there. It is stored with the job, where everybody who sees the queue can read it: carry no
   * secrets.
   *
   * An error that it throws is the task's failure. Under `flush: 'before-response'` it fails the request as well. @default none
   */
  carry?: (() => unknown) | undefined;
  /**
   * Where the tasks of a transaction are from its COMMIT until the engine has them, such as `sqlOutbox()` of `nestjs-background-tasks/outbox`. It
   * needs an engine. @default none: the engine gets the tasks of a transaction after its COMMIT, and a crash in between loses them
   */
  outbox?: BackgroundTasksOutbox | undefined;
  /** When the engine gets the tasks of a request. @default 'before-response': the answer goes out only after the engine has them */
  flush?: FlushMode | undefined;
  /** Time that the engine is given to take the tasks of a request, in ms, all retries included: 300000 at most. @default 5000 */
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
  flushTimeout: milliseconds(1, LONGEST_FLUSH_MS),
};

/** Options of `@BackgroundTask(name, options)`. */
export interface NamedTaskOptions extends EngineMethodOptions {
  /** Time after which one attempt is given up, in ms: its signal fires. @default the module's `timeout` */
  timeout?: number | undefined;
  /** The outcome of the request on which the task runs; with another it is discarded. @default the module's `runOn` */
  runOn?: RunOn | undefined;
  /** When an engine gets the task. Needs an engine. @default the module's `flush` */
  flush?: FlushMode | undefined;
  /**
   * The first transaction that a run of the task opens writes down that the task is done. The writes of that transaction are made once, however
   * often a worker dies. Needs an outbox. @default false
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
 * The options of `@BackgroundTask()`, validated.
 *
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function checkNamedTaskOptions(options: unknown): NamedTaskOptions {
  return validated<NamedTaskOptions>('@BackgroundTask()', options, NAMED_TASK_EXPECTATIONS);
}

/** Those of the options that need an engine. */
export function engineOptionsOf(options: EngineMethodOptions): EngineMethodOptions {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(METHOD_EXPECTATIONS, name)));
}

/** @throws The error of the function for the key, and BackgroundTasksError `INVALID_TASK` if it returns no key. */
export function deduplicationOf(task: string, { id, ...options }: DeduplicationOptions, args: readonly unknown[]): Deduplication {
  // The decorator cannot know the types of the method's parameters.
  const key: unknown = typeof id === 'function' ? (id as AnyFunction)(...(args as never[])) : id;
  if (!isKey(key))
    throw invalid('INVALID_TASK', `what \`deduplication.id\` of background task "${task}" returns`, 'a non-empty string', key);
  // Methods share a queue.
  return { ...options, id: `${task}:${key}` };
}

/** The error for an option that only an engine can keep. */
export function needsEngine(option: string, owner: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_OPTION',
    `The option \`${option}\` of ${owner} needs an engine, as a crash of this process would forget it: ` +
      'configure `engine` in BackgroundTasksModule.forRoot(), or leave the option out',
  );
}

/** The error for `once` without an outbox. */
export function needsOutbox(task: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_OPTION',
    `The option \`once\` of @BackgroundTask("${task}") needs an outbox, in which done tasks are written down: configure \`outbox\` in ` +
      'BackgroundTasksModule.forRoot(), also in workers, or leave the option out',
  );
}
