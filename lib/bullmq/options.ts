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

/** Options of `bullmqEngine()`. */
export interface BullmqEngineOptions {
  /** Where the queue is: a URL or options of `ioredis`, or what the `backend` connects with. The engine makes connections of its own. */
  connection: string | object;
  /** `createPostgresBackend` of BullMQ 6, for Postgres in the place of Redis. @default Redis */
  backend?: BullmqBackend | undefined;
  /** The name of the queue. @default 'background-tasks' */
  queue?: string | undefined;
  /** How tasks are run in this process, or `false` if it only adds them. @default all defaults */
  worker?: false | BullmqWorkerOptions | undefined;
}

/** The options of the engine with their defaults filled in. */
export interface ResolvedBullmqOptions {
  readonly connection: string | object;
  readonly backend: BullmqBackend | undefined;
  readonly queue: string;
  readonly worker: false | Readonly<Required<{ [Name in keyof BullmqWorkerOptions]: number }>>;
}

const count = (least: number): Expectation => ({
  expected: `an integer from ${least}`,
  accepts: (value) => Number.isInteger(value) && Number(value) >= least,
});

const EXPECTATIONS: Expectations<BullmqEngineOptions> = {
  // See `checkConnection`.
  connection: { expected: '', accepts: () => true },
  backend: { expected: '`createPostgresBackend` of BullMQ 6', accepts: (value) => typeof value === 'function' },
  queue: { expected: 'a name without a colon', accepts: (value) => typeof value === 'string' && /^[^:]+$/.test(value) },
  worker: { expected: 'false or an object', accepts: (value) => value === false || (typeof value === 'object' && value !== null) },
};

const WORKER_EXPECTATIONS: Expectations<BullmqWorkerOptions> = {
  concurrency: count(1),
  lockDuration: count(1),
  stalledInterval: count(1),
  maxStalledCount: count(0),
};

const WORKER_DEFAULTS = { concurrency: 10, lockDuration: 10_000, stalledInterval: 5_000, maxStalledCount: 5 };

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
  } = validated<BullmqEngineOptions>('bullmqEngine()', options, EXPECTATIONS);
  checkConnection(connection);
  if (!backend) checkRedisOptions(connection);
  const given =
    worker && validated<Exclude<ResolvedBullmqOptions['worker'], false>>('`worker` of bullmqEngine()', worker, WORKER_EXPECTATIONS);
  return { connection, backend, queue, worker: given && { ...WORKER_DEFAULTS, ...given } };
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
function checkConnection(connection: unknown): asserts connection is string | object {
  if (typeof connection === 'string' && URL.canParse(connection) && /^(rediss?|postgres(ql)?):/.test(connection)) return;
  if (typeof connection === 'object' && connection !== null && !('connect' in connection)) return;
  throw new BackgroundTasksError(
    'INVALID_OPTION',
    `Expected the option \`connection\` of bullmqEngine() to be a URL that begins with redis:, rediss:, postgres: or postgresql:, or connection ` +
      `options, and not a client or a pool, as the engine makes connections of its own; got ${describeArgument(connection)}`,
  );
}

/** Options of ioredis with which BullMQ does something else than it says, each with what to use in its place. */
const UNBEARABLE: Readonly<Record<string, string>> = {
  keyPrefix:
    'BullMQ would run tasks several times. For environments that share a server, give each its own `queue` (on Postgres, its own `connection.schema`)',
};

/** @throws BackgroundTasksError `INVALID_OPTION` for an option of ioredis that BullMQ cannot bear. */
function checkRedisOptions(connection: string | object): void {
  const given = typeof connection === 'string' ? Object.fromEntries(new URL(connection).searchParams) : connection;
  for (const [option, instead] of Object.entries(UNBEARABLE)) {
    const value: unknown = Reflect.get(given, option);
    if (value === undefined || value === null || value === '' || value === false) continue;
    throw new BackgroundTasksError('INVALID_OPTION', `The option \`${option}\` of \`connection\` of bullmqEngine() is refused: ${instead}`);
  }
}
