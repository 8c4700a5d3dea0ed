import { MAX_FLUSH_MS } from '../engine/engine.js';
import { BackgroundTasksError } from '../task/errors.js';
import { type Expectation, type Expectations, describeArgument, invalid, validated } from '../task/validation.js';

/** The function with which BullMQ creates its connections: `createPostgresBackend` of BullMQ 6. */
export type BullmqBackend = (name: string, options: never, factoryOptions?: never) => object;

/** The options for running tasks in this process. */
export interface BullmqWorkerOptions {
  /** The number of tasks that run at once in this process. @default 10 */
  concurrency?: number | undefined;
  /**
   * Time for which a worker locks a task, in ms. It renews the lock twice in that time; if it does not, it counts as dead. @default 10000
   */
  lockDuration?: number | undefined;
  /** Time between two checks for tasks whose worker has died, in ms. @default 5000 */
  stalledInterval?: number | undefined;
  /**
   * The number of times that its worker may die while a task runs. After two deaths the task runs without any other task of this process
   * beside it. It fails at the next death after this number, if it ran alone then. @default 5
   */
  maxStalledCount?: number | undefined;
}

/** The time for which ended tasks are kept. */
export interface BullmqKeepOptions {
  /** Time for which a completed task is kept, in ms: 300000 at least. @default 600000, ten minutes */
  completed?: number | undefined;
  /** Time for which a failed task is kept, in ms: 300000 at least. @default 604800000, a week */
  failed?: number | undefined;
}

/** A client of `ioredis`: a `Cluster`, or a `Redis` that needs more than options. */
export interface BullmqClient {
  readonly status: string;
  duplicate(...args: never[]): object;
  disconnect(): void;
}

/** Options of `bullmqEngine()`. */
export interface BullmqEngineOptions {
  /**
   * The server of the queue: a URL, or options for `ioredis` or for the `backend`. The engine creates its own connections.
   *
   * Or a function that returns a new client of `ioredis` at each call, for Redis Cluster, which needs BullMQ 6, and for clients that need
   * more than options. The engine closes the clients.
   */
  connection: string | object | (() => BullmqClient);
  /** `createPostgresBackend` of BullMQ 6, to use Postgres instead of Redis. @default Redis */
  backend?: BullmqBackend | undefined;
  /** The name of the queue. @default 'background-tasks' */
  queue?: string | undefined;
  /**
   * The options for running tasks in this process, or `false` if it only adds them. Each queue has its own worker. These options apply to
   * `queue`, and to queues that `@BackgroundTask()` methods name and `queues` does not. @default all defaults
   */
  worker?: false | BullmqWorkerOptions | undefined;
  /**
   * Options that override `worker` for single queues, by name; `false` if the tasks of a queue do not run in this process. @default none
   */
  queues?: Readonly<Record<string, false | BullmqWorkerOptions>> | undefined;
  /** The time for which ended tasks are kept. @default all defaults */
  keep?: BullmqKeepOptions | undefined;
  /**
   * The number of replicas of Redis that must have a task before it counts as accepted. A failover can lose a task that no replica has.
   *
   * @default 0
   * @see https://redis.io/docs/latest/commands/wait/
   */
  replicas?: number | undefined;
}

/** The settings of one worker. */
export type WorkerSettings = Readonly<Required<{ [Name in keyof BullmqWorkerOptions]: number }>>;

/** The options of the engine with their defaults filled in. */
export interface ResolvedBullmqOptions {
  readonly connection: string | object | (() => BullmqClient);
  readonly backend: BullmqBackend | undefined;
  readonly queue: string;
  readonly worker: false | WorkerSettings;
  readonly queues: ReadonlyMap<string, false | WorkerSettings>;
  readonly keep: Readonly<Required<{ [Name in keyof BullmqKeepOptions]: number }>>;
  readonly replicas: number;
}

const count = (least: number): Expectation => ({
  expected: `an integer from ${least}`,
  accepts: (value) => Number.isInteger(value) && Number(value) >= least,
});

const QUEUE: Expectation = {
  expected: 'a name without a colon',
  accepts: (value) => typeof value === 'string' && /^[^:]+$/.test(value),
};
const SETTINGS: Expectation = {
  expected: 'false or an object',
  accepts: (value) => value === false || (typeof value === 'object' && value !== null),
};
const OBJECT: Expectation = { expected: 'an object', accepts: (value) => typeof value === 'object' && value !== null };

const EXPECTATIONS: Expectations<BullmqEngineOptions> = {
  // See `checkConnection`.
  connection: { expected: '', accepts: () => true },
  backend: { expected: '`createPostgresBackend` of BullMQ 6', accepts: (value) => typeof value === 'function' },
  queue: QUEUE,
  worker: SETTINGS,
  queues: OBJECT,
  keep: OBJECT,
  replicas: count(0),
};

const WORKER_EXPECTATIONS: Expectations<BullmqWorkerOptions> = {
  concurrency: count(1),
  lockDuration: count(1),
  stalledInterval: count(1),
  maxStalledCount: count(0),
};

const WORKER_DEFAULTS = { concurrency: 10, lockDuration: 10_000, stalledInterval: 5_000, maxStalledCount: 5 };

/** If a task is forgotten while it may still be handed over again, it counts as new, and runs again. */
const REMEMBERED: Expectation = {
  expected: `milliseconds, an integer from ${MAX_FLUSH_MS}, as a task that is removed sooner may be handed over and run again`,
  accepts: (value) => Number.isSafeInteger(value) && Number(value) >= MAX_FLUSH_MS,
};

const KEEP_EXPECTATIONS: Expectations<BullmqKeepOptions> = { completed: REMEMBERED, failed: REMEMBERED };

/**
 * Only ages, no counts: a big flush would push other jobs out of a count, and on Postgres, workers that trim to a count block each other.
 */
const KEEP_DEFAULTS = { completed: 600_000, failed: 7 * 24 * 3_600_000 };

/**
 * Checks the options of the engine, and fills in the defaults.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function resolveBullmqOptions(options: unknown): ResolvedBullmqOptions {
  const {
    connection,
    backend,
    queue = 'background-tasks',
    worker = {},
    queues = {},
    keep = {},
    replicas = 0,
  } = validated<BullmqEngineOptions>('bullmqEngine()', options, EXPECTATIONS);
  checkConnection(connection);
  if (backend && replicas > 0)
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_INVALID_OPTION',
      'The option `replicas` of bullmqEngine() is for Redis. On Postgres, set `synchronous_standby_names` on the server instead',
    );
  if (typeof connection !== 'function') checkOptionsOf(connection, backend ? UNSUPPORTED_ON_POSTGRES : UNSUPPORTED);
  const settingsOf = (owner: string, given: false | BullmqWorkerOptions, defaults: WorkerSettings): false | WorkerSettings =>
    given && { ...defaults, ...validated<WorkerSettings>(`${owner} of bullmqEngine()`, given, WORKER_EXPECTATIONS) };
  const own = settingsOf('`worker`', worker, WORKER_DEFAULTS);
  return {
    connection,
    backend,
    queue,
    worker: own,
    queues: new Map(
      Object.entries(queues).map(([name, given]) => {
        if (!QUEUE.accepts(name))
          throw invalid('BACKGROUND_TASK_INVALID_OPTION', 'a key of `queues` of bullmqEngine()', QUEUE.expected, name);
        if (!SETTINGS.accepts(given))
          throw invalid('BACKGROUND_TASK_INVALID_OPTION', `\`queues["${name}"]\` of bullmqEngine()`, SETTINGS.expected, given);
        return [name, settingsOf(`\`queues["${name}"]\``, given, own || WORKER_DEFAULTS)];
      }),
    ),
    keep: {
      ...KEEP_DEFAULTS,
      ...validated<ResolvedBullmqOptions['keep']>('`keep` of bullmqEngine()', keep, KEEP_EXPECTATIONS),
    },
    replicas,
  };
}

/** @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION` for a queue that BullMQ refuses. */
export function checkQueue(task: string, queue: string | undefined): void {
  if (queue === undefined || QUEUE.accepts(queue)) return;
  throw invalid('BACKGROUND_TASK_INVALID_OPTION', `the option \`queue\` of @BackgroundTask("${task}")`, QUEUE.expected, queue);
}

/** BullMQ's limit. */
const MAX_PRIORITY = 2 ** 21 - 1;

/** @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION` for a priority that BullMQ does not support. */
export function checkPriority(task: string, priority: number | undefined): void {
  if (priority === undefined || priority <= MAX_PRIORITY) return;
  throw invalid(
    'BACKGROUND_TASK_INVALID_OPTION',
    `the option \`priority\` of background task "${task}"`,
    `an integer from 1 to ${MAX_PRIORITY}`,
    priority,
  );
}

/** The error does not quote the value, as a URL may contain a password. */
function checkConnection(connection: unknown): asserts connection is BullmqEngineOptions['connection'] {
  if (typeof connection === 'string' && URL.canParse(connection) && /^(rediss?|postgres(ql)?):/.test(connection)) return;
  if (typeof connection === 'object' && connection !== null && !('connect' in connection)) return;
  if (typeof connection === 'function') return;
  throw new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_OPTION',
    `Expected the option \`connection\` of bullmqEngine() to be a URL that begins with redis:, rediss:, postgres: or postgresql:, or connection ` +
      `options, or a function that returns a new client of ioredis, and not a client or a pool, as the engine closes its connections; got ${describeArgument(connection)}`,
  );
}

/** Options of ioredis that break BullMQ, each with the reason and the alternative. */
const UNSUPPORTED: Readonly<Record<string, string>> = {
  keyPrefix:
    'BullMQ would run tasks several times. For environments that share a server, give each its own `queue` (on Postgres, its own `connection.schema`)',
  stringNumbers: 'BullMQ would mistake the reply of an empty queue for a task. Leave it out: the engine reads no big numbers',
};

/** Options of pg that BullMQ does not work with, each with the reason. */
const UNSUPPORTED_ON_POSTGRES: Readonly<Record<string, string>> = {
  types:
    'BullMQ would misread the arguments of tasks, and acknowledged tasks would fail. Leave it out: only the engine uses these connections',
  binary: 'BullMQ would misread the arguments of tasks, and acknowledged tasks would fail. Leave it out',
};

/** @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION` for an option of the driver that breaks BullMQ. */
function checkOptionsOf(connection: string | object, unsupported: typeof UNSUPPORTED): void {
  const { connectionString, url = connectionString }: { connectionString?: unknown; url?: unknown } =
    typeof connection === 'string' ? { url: connection } : connection;
  const inUrl = typeof url === 'string' && URL.canParse(url) ? Object.fromEntries(new URL(url).searchParams) : {};
  const refusal = unsupportedOption(inUrl, unsupported) ?? unsupportedOption(Object(connection), unsupported);
  if (refusal !== undefined) throw new BackgroundTasksError('BACKGROUND_TASK_INVALID_OPTION', refusal);
}

/** The reason why one of these options of a driver breaks BullMQ, if one does. */
export function unsupportedOption(given: object, unsupported = UNSUPPORTED): string | undefined {
  for (const [option, instead] of Object.entries(unsupported)) {
    const value: unknown = Reflect.get(given, option);
    if (value === undefined || value === null || value === '' || value === false) continue;
    return `The option \`${option}\` of \`connection\` of bullmqEngine() is refused: ${instead}`;
  }
  return undefined;
}
