import { LONGEST_FLUSH_MS } from '../engine/engine.js';
import { BackgroundTasksError } from '../task/errors.js';
import { type Expectation, type Expectations, describeArgument, invalid, validated } from '../task/validation.js';

/** What BullMQ makes its connections with: `createPostgresBackend` of BullMQ 6. */
export type BullmqBackend = (name: string, options: never, factoryOptions?: never) => object;

/** How tasks are run in this process. */
export interface BullmqWorkerOptions {
  /** How many tasks run at once in this process. @default 10 */
  concurrency?: number | undefined;
  /** Milliseconds for which a worker holds a task. It renews this by itself, twice in that time; one that does not counts as dead. @default 10000 */
  lockDuration?: number | undefined;
  /** Milliseconds between two looks for tasks whose worker has died. @default 5000 */
  stalledInterval?: number | undefined;
  /**
   * How many of its workers may die while a task runs. After two deaths it runs with no other task of this process beside it. It fails after one
   * death more than this, if it ran alone then. @default 5
   */
  maxStalledCount?: number | undefined;
}

/** How long tasks are kept once they have ended. */
export interface BullmqKeepOptions {
  /** Milliseconds for which a completed task is kept, from 300000. @default 600000, ten minutes */
  completed?: number | undefined;
  /** Milliseconds for which a failed task is kept, from 300000. @default 604800000, a week */
  failed?: number | undefined;
}

/** A client of `ioredis`: a `Cluster`, or a `Redis` that options cannot describe. */
export interface BullmqClient {
  readonly status: string;
  duplicate(...args: never[]): object;
  disconnect(): void;
}

/** Options of `bullmqEngine()`. */
export interface BullmqEngineOptions {
  /**
   * Where the queue is: a URL or options of `ioredis`, or what the `backend` connects with. The engine makes connections of its own.
   *
   * Or a function that returns a new client of `ioredis` at each call, for Redis Cluster, which needs BullMQ 6, and for what options cannot say.
   * The engine closes the clients.
   */
  connection: string | object | (() => BullmqClient);
  /** `createPostgresBackend` of BullMQ 6, for Postgres in the place of Redis. @default Redis */
  backend?: BullmqBackend | undefined;
  /** The name of the queue. @default 'background-tasks' */
  queue?: string | undefined;
  /**
   * How tasks are run in this process, or `false` if it only adds them. Each queue has a worker of its own: this is for `queue`, and for those
   * that `@BackgroundTask()` methods name and `queues` does not. @default all defaults
   */
  worker?: false | BullmqWorkerOptions | undefined;
  /** The same for one queue, by its name: what differs from `worker`, or `false` if its tasks do not run in this process. @default none differs */
  queues?: Readonly<Record<string, false | BullmqWorkerOptions>> | undefined;
  /** How long tasks are kept once they have ended. @default all defaults */
  keep?: BullmqKeepOptions | undefined;
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
};

const WORKER_EXPECTATIONS: Expectations<BullmqWorkerOptions> = {
  concurrency: count(1),
  lockDuration: count(1),
  stalledInterval: count(1),
  maxStalledCount: count(0),
};

const WORKER_DEFAULTS = { concurrency: 10, lockDuration: 10_000, stalledInterval: 5_000, maxStalledCount: 5 };

/** A task that is forgotten while it may be handed over again would be a new one, and run again. */
const REMEMBERED: Expectation = {
  expected: `milliseconds, an integer from ${LONGEST_FLUSH_MS}, as a task that is forgotten sooner may be handed over, and run, again`,
  accepts: (value) => Number.isSafeInteger(value) && Number(value) >= LONGEST_FLUSH_MS,
};

const KEEP_EXPECTATIONS: Expectations<BullmqKeepOptions> = { completed: REMEMBERED, failed: REMEMBERED };

/** By age alone: a big flush, or many of them, would push jobs out of a count, and workers that trim to a count run into each other's locks on Postgres. */
const KEEP_DEFAULTS = { completed: 600_000, failed: 7 * 24 * 3_600_000 };

/**
 * The options of the engine, validated, with their defaults.
 *
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function resolveBullmqOptions(options: unknown): ResolvedBullmqOptions {
  const {
    connection,
    backend,
    queue = 'background-tasks',
    worker = {},
    queues = {},
    keep = {},
  } = validated<BullmqEngineOptions>('bullmqEngine()', options, EXPECTATIONS);
  checkConnection(connection);
  if (typeof connection !== 'function') checkOptionsOf(connection, backend ? UNBEARABLE_ON_POSTGRES : UNBEARABLE);
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
        if (!QUEUE.accepts(name)) throw invalid('INVALID_OPTION', 'a key of `queues` of bullmqEngine()', QUEUE.expected, name);
        if (!SETTINGS.accepts(given)) throw invalid('INVALID_OPTION', `\`queues["${name}"]\` of bullmqEngine()`, SETTINGS.expected, given);
        return [name, settingsOf(`\`queues["${name}"]\``, given, own || WORKER_DEFAULTS)];
      }),
    ),
    keep: {
      ...KEEP_DEFAULTS,
      ...validated<ResolvedBullmqOptions['keep']>('`keep` of bullmqEngine()', keep, KEEP_EXPECTATIONS),
    },
  };
}

/** @throws BackgroundTasksError `INVALID_OPTION` for a queue that BullMQ refuses. */
export function checkQueue(task: string, queue: string | undefined): void {
  if (queue === undefined || QUEUE.accepts(queue)) return;
  throw invalid('INVALID_OPTION', `the option \`queue\` of @BackgroundTask("${task}")`, QUEUE.expected, queue);
}

/** BullMQ's limit. */
const MOST_PRIORITY = 2 ** 21 - 1;

/** @throws BackgroundTasksError `INVALID_OPTION` for a priority that BullMQ does not have. */
export function checkPriority(task: string, priority: number | undefined): void {
  if (priority === undefined || priority <= MOST_PRIORITY) return;
  throw invalid(
    'INVALID_OPTION',
    `the option \`priority\` of background task "${task}"`,
    `an integer from 1 to ${MOST_PRIORITY}`,
    priority,
  );
}

/** The error does not quote the value: a URL may have a password. */
function checkConnection(connection: unknown): asserts connection is BullmqEngineOptions['connection'] {
  if (typeof connection === 'string' && URL.canParse(connection) && /^(rediss?|postgres(ql)?):/.test(connection)) return;
  if (typeof connection === 'object' && connection !== null && !('connect' in connection)) return;
  if (typeof connection === 'function') return;
  throw new BackgroundTasksError(
    'INVALID_OPTION',
    `Expected the option \`connection\` of bullmqEngine() to be a URL that begins with redis:, rediss:, postgres: or postgresql:, or connection ` +
      `options, or a function that returns a new client of ioredis, and not a client or a pool, as the engine closes its connections; got ${describeArgument(connection)}`,
  );
}

/** Options of ioredis with which BullMQ does something else than it says, each with what to use in its place. */
const UNBEARABLE: Readonly<Record<string, string>> = {
  keyPrefix:
    'BullMQ would run tasks several times. For environments that share a server, give each its own `queue` (on Postgres, its own `connection.schema`)',
  stringNumbers: 'BullMQ would take the answer that no task waits for a task. Leave it out: the engine reads no big numbers',
};

/** The same of pg. */
const UNBEARABLE_ON_POSTGRES: Readonly<Record<string, string>> = {
  types:
    "BullMQ would not get its data as it reads them, and tasks that were acknowledged would fail. The connections are the engine's alone: leave it out",
  binary: 'BullMQ would not get its data as it reads them, and tasks that were acknowledged would fail. Leave it out',
};

/** @throws BackgroundTasksError `INVALID_OPTION` for an option of the driver that BullMQ cannot bear. */
function checkOptionsOf(connection: string | object, unbearable: typeof UNBEARABLE): void {
  const { connectionString }: { connectionString?: unknown } =
    typeof connection === 'string' ? { connectionString: connection } : connection;
  const isUrl = typeof connectionString === 'string' && URL.canParse(connectionString);
  const inUrl = isUrl ? Object.fromEntries(new URL(connectionString).searchParams) : {};
  const refusal = refusalOfOptions(inUrl, unbearable) ?? refusalOfOptions(Object(connection), unbearable);
  if (refusal !== undefined) throw new BackgroundTasksError('INVALID_OPTION', refusal);
}

/** Why BullMQ cannot bear one of these options of a driver, if so. */
export function refusalOfOptions(given: object, unbearable = UNBEARABLE): string | undefined {
  for (const [option, instead] of Object.entries(unbearable)) {
    const value: unknown = Reflect.get(given, option);
    if (value === undefined || value === null || value === '' || value === false) continue;
    return `The option \`${option}\` of \`connection\` of bullmqEngine() is refused: ${instead}`;
  }
  return undefined;
}
