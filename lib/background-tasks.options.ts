import type { BackgroundTask } from './background-task.js';
import type { BackgroundTasksEngine } from './background-tasks.engine.js';
import { BackgroundTasksError, invalid } from './background-tasks.errors.js';

/** The outcome of a request on which a task runs. */
export type RunOn = 'success' | 'failure' | 'always';

/** When an engine gets the tasks of a request: before the client has the answer, or once the answer is out. */
export type FlushMode = 'before-response' | 'after-response';

/** Options of one task: `tasks.addTask({ name: 'welcome-mail' }, sendMail, address)`. */
export interface BackgroundTaskOptions {
  /** What logs and errors call the task. @default the function's own name */
  name?: string | undefined;
  /** Milliseconds after which the task is given up: its signal fires and the next one starts. @default the module's `timeout` */
  timeout?: number | undefined;
  /** The outcome of the request on which the task runs; with another it is discarded. @default the module's `runOn` */
  runOn?: RunOn | undefined;
  /** When an engine gets the task, which must be a `@BackgroundTask()` method. @default the method's `flush`, or the module's */
  flush?: FlushMode | undefined;
}

/** Options of `BackgroundTasksModule.forRoot()`. */
export interface BackgroundTasksModuleOptions {
  /** The outcome of a request on which its tasks run; with another they are discarded. @default 'success', as in FastAPI */
  runOn?: RunOn | undefined;
  /** When a task fails, the remaining tasks of its request run (`'continue'`) or are discarded (`'stop'`, as in Starlette). @default 'continue' */
  onTaskFailure?: 'continue' | 'stop' | undefined;
  /** How many tasks run at once in the application. @default Infinity */
  concurrency?: number | undefined;
  /** How many tasks may wait in the application; `addTask` beyond it throws a `BackgroundTasksOverflowError`. @default Infinity */
  maxPending?: number | undefined;
  /** Milliseconds after which a task is given up: its signal fires and the next one starts. @default none */
  timeout?: number | undefined;
  /** Milliseconds that `app.close()` waits for requests in flight and for tasks; what is left is given up. @default 30000 */
  shutdownTimeout?: number | undefined;
  /** Called with the error of each task that failed, after it was logged. What this throws or rejects with is logged, too. */
  onError?: ((error: unknown, task: BackgroundTask) => unknown) | undefined;
  /** Where `@BackgroundTask()` methods go, such as `bullmqEngine()` of `nestjs-background-tasks/bullmq`. @default none: they run in process */
  engine?: BackgroundTasksEngine | undefined;
  /** When the engine gets the tasks of a request. @default 'before-response': the answer goes out only after the engine has them */
  flush?: FlushMode | undefined;
  /** Milliseconds that the engine is given to take the tasks of a request, all retries included. @default 5000 */
  flushTimeout?: number | undefined;
}

/** Module options with their defaults filled in. */
export interface ResolvedOptions {
  readonly runOn: RunOn;
  readonly onTaskFailure: 'continue' | 'stop';
  readonly concurrency: number;
  readonly maxPending: number;
  readonly timeout: number | undefined;
  readonly shutdownTimeout: number;
  readonly onError: ((error: unknown, task: BackgroundTask) => unknown) | undefined;
  readonly engine: BackgroundTasksEngine | undefined;
  readonly flush: FlushMode;
  readonly flushTimeout: number;
}

/** The injection token of what the application passed to `forRoot` or `forRootAsync`. */
export const MODULE_OPTIONS = Symbol('BackgroundTasksModuleOptions');

const MODULE = 'BackgroundTasksModule';

const DEFAULT_OPTIONS: ResolvedOptions = {
  runOn: 'success',
  onTaskFailure: 'continue',
  concurrency: Infinity,
  maxPending: Infinity,
  timeout: undefined,
  shutdownTimeout: 30_000,
  onError: undefined,
  engine: undefined,
  flush: 'before-response',
  flushTimeout: 5_000,
};

export interface Expectation {
  readonly expected: string;
  readonly accepts: (value: unknown) => boolean;
}

const oneOf = (...values: string[]): Expectation => ({
  expected: values.map((value) => `'${value}'`).join(' or '),
  accepts: (value) => typeof value === 'string' && values.includes(value),
});

export const RUN_ON = oneOf('success', 'failure', 'always');
export const FLUSH = oneOf('before-response', 'after-response');

const COUNT: Expectation = {
  expected: 'a positive integer or Infinity',
  accepts: (value) => value === Infinity || (Number.isInteger(value) && Number(value) > 0),
};

/** The longest delay of a Node timer: a longer one would fire at once. */
const MAX_DELAY = 2 ** 31 - 1;

export const milliseconds = (min: number): Expectation => ({
  expected: `milliseconds, an integer from ${min} to ${MAX_DELAY}`,
  accepts: (value) => Number.isInteger(value) && Number(value) >= min && Number(value) <= MAX_DELAY,
});

const MODULE_EXPECTATIONS: Record<keyof BackgroundTasksModuleOptions, Expectation> = {
  runOn: RUN_ON,
  onTaskFailure: oneOf('continue', 'stop'),
  concurrency: COUNT,
  maxPending: COUNT,
  timeout: milliseconds(1),
  shutdownTimeout: milliseconds(0),
  onError: { expected: 'a function', accepts: (value) => typeof value === 'function' },
  engine: {
    expected: 'an engine, such as `bullmqEngine({ … })`',
    accepts: (value) => typeof value === 'object' && value !== null && 'enqueue' in value,
  },
  flush: FLUSH,
  flushTimeout: milliseconds(1),
};

const TASK_EXPECTATIONS: Record<keyof BackgroundTaskOptions, Expectation> = {
  name: { expected: 'a non-empty string', accepts: (value) => typeof value === 'string' && value !== '' },
  timeout: milliseconds(1),
  runOn: RUN_ON,
  flush: FLUSH,
};

/**
 * The application's options, validated, with their defaults.
 *
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function resolveOptions(options: unknown = {}): ResolvedOptions {
  return { ...DEFAULT_OPTIONS, ...validated<ResolvedOptions>(MODULE, options, MODULE_EXPECTATIONS) };
}

/**
 * The options of one task, validated.
 *
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function checkTaskOptions(options: unknown): BackgroundTaskOptions {
  return validated<BackgroundTaskOptions>('addTask()', options, TASK_EXPECTATIONS);
}

export function validated<Options>(owner: string, options: unknown, expectations: Record<string, Expectation>): Partial<Options> {
  if (typeof options !== 'object' || options === null) throw invalid('INVALID_OPTION', `the options of ${owner}`, 'an object', options);
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  for (const [name, value] of given) {
    if (!Object.hasOwn(expectations, name)) {
      const known = Object.keys(expectations).join('`, `');
      const isOfModule = owner === MODULE && (name === 'scope' || name === 'isGlobal');
      const beside = isOfModule ? '; in forRootAsync(), it goes beside the factory, and not into what that returns' : '';
      throw new BackgroundTasksError('INVALID_OPTION', `Unknown option \`${name}\` of ${owner}, expected one of \`${known}\`${beside}`);
    }
    const { expected, accepts } = expectations[name]!;
    if (!accepts(value)) throw invalid('INVALID_OPTION', `the option \`${name}\` of ${owner}`, expected, value);
  }
  // Each value has just been checked against the expectation of its name.
  return Object.fromEntries(given) as Partial<Options>;
}

/**
 * Checks that configuring the module in several places comes to one and the same: there is one runner, which cannot follow two.
 *
 * @throws BackgroundTasksError `CONFLICTING_OPTIONS`, naming the option.
 */
export function assertSameOptions(configurations: readonly ResolvedOptions[]): void {
  const [first, ...others] = configurations;
  for (const other of others) {
    const name = (Object.keys(DEFAULT_OPTIONS) as (keyof ResolvedOptions)[]).find((key) => first?.[key] !== other[key]);
    if (name) {
      throw new BackgroundTasksError(
        'CONFLICTING_OPTIONS',
        `BackgroundTasksModule is configured in several places, with a different \`${name}\`: configure it once, in the root module, and import it plain elsewhere`,
      );
    }
  }
}
