import { EventEmitter } from 'node:events';
import { performance } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { DelayedError, Queue, UnrecoverableError, Worker } from 'bullmq';
import { BackgroundTasksError } from '../task/errors.js';
import type { JobData } from './job.js';
import type { BullmqBackend } from './options.js';

/** The first BullMQ whose worker can stop its jobs. */
const OLDEST = [5, 64, 0] as const;
/** The first BullMQ 5 whose worker recovers from an outage of Sentinels. */
const OLDEST_WITH_SENTINELS = [5, 81, 3] as const;
/** The first BullMQ 6 whose worker recovers from 10 s without Redis. */
const OLDEST_6 = [6, 3, 3] as const;

type Version = readonly [major: number, minor: number, patch: number];

/** @throws BackgroundTasksError `BACKGROUND_TASK_MISSING_PACKAGE` if BullMQ is too old, or a version whose workers stop for good. */
export function assertBullmq(connection?: unknown, version: string | undefined = bullmqVersion()): void {
  const parts = version?.split(/[.-]/).map(Number);
  if (!('cancelAllJobs' in Worker.prototype) || (parts && isBefore(parts, OLDEST))) {
    throw wrongVersion(version, `${OLDEST.join('.')} or later, or 6`, 'bullmq@6');
  }
  // Without a version, it may be any.
  if (!parts) return;
  if (parts[0] === 6 && isBefore(parts, OLDEST_6)) {
    throw wrongVersion(
      version,
      `6.3.3 or later, as the workers of earlier 6 versions never recover from 10 s without Redis`,
      'bullmq@^6.3.3',
    );
  }
  const hasSentinels = typeof connection === 'object' && connection !== null && 'sentinels' in connection && connection.sentinels;
  if (parts[0] === 5 && hasSentinels && isBefore(parts, OLDEST_WITH_SENTINELS)) {
    throw wrongVersion(
      version,
      '5.81.3 or later for `sentinels`, as the workers of earlier versions never recover from an outage of the Sentinels',
      'bullmq@^5.81.3',
    );
  }
}

/** The version that BullMQ writes to its queues. BullMQ does not export it in another way that both ES modules and bundles can read. */
export function bullmqVersion(): string | undefined {
  try {
    const { version } = Reflect.get(Queue.prototype, 'metaValues', { libName: 'bullmq', opts: {} }) as { version?: unknown };
    return /^bullmq:(\d+\.\d+\.\d+)/.exec(String(version))?.[1];
  } catch {
    return undefined;
  }
}

function isBefore(version: readonly number[], least: Version): boolean {
  const index = least.findIndex((part, at) => version[at] !== part);
  return index !== -1 && (version[index] ?? 0) < least[index]!;
}

function wrongVersion(version: string | undefined, needed: string, install: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_MISSING_PACKAGE',
    `bullmqEngine() needs BullMQ ${needed}, but found ${version ?? 'an older one'}: npm install ${install}`,
  );
}

/** Translates the error for a driver that is not installed, which retries cannot fix. Returns any other error as it is. */
export function missingDriver(error: unknown): unknown {
  const [, driver] = (error instanceof Error && /could not load the optional '(\w+)' package/.exec(error.message)) || [];
  if (driver === undefined) return error;
  return new BackgroundTasksError(
    'BACKGROUND_TASK_MISSING_PACKAGE',
    `BullMQ needs the package ${driver} to connect to its server, and cannot load it: npm install ${driver}`,
  );
}

/** The part of an ioredis 5 client that is patched. */
interface Client {
  socketTimeoutTimer: NodeJS.Timeout | undefined;
  disconnect(): void;
  on(event: 'close', listener: () => void): void;
}

/**
 * Patches the connections of a `Queue` or a `Worker` of BullMQ 5, which uses ioredis 5. BullMQ 6 has none of these fields.
 *
 * If a connection is closed while it opens, it emits its error after its listeners have been removed, which ends the process. And the timer
 * of `socketTimeout` keeps running after a connection was lost or closed, and keeps the process alive.
 */
export function patchConnections(part: object): void {
  for (const connection of [Reflect.get(part, 'connection'), Reflect.get(part, 'blockingConnection')] as unknown[]) {
    if (!(connection instanceof EventEmitter)) continue;
    connection.removeAllListeners = () => connection;
    const client = clientOf(connection);
    client.on('close', () => {
      clearTimeout(client.socketTimeoutTimer);
      client.socketTimeoutTimer = undefined;
    });
  }
}

/** Closes the connection that waits for tasks. BullMQ 5 forgets it when it disconnects a worker, and it would reconnect for ever. */
function stopWaiting(worker: object): void {
  const connection = Reflect.get(worker, 'blockingConnection') as unknown;
  if (connection instanceof EventEmitter) clientOf(connection).disconnect();
}

/** The client of a connection. BullMQ 5 creates it immediately. */
function clientOf(connection: EventEmitter): Client {
  return Reflect.get(connection, '_client') as Client;
}

/** The part of an ioredis client that waits for replicas. */
interface RedisClient {
  pipeline(): RedisPipeline;
}

interface RedisPipeline {
  set(key: string, value: string, unit: 'PX', milliseconds: number): RedisPipeline;
  exists(...keys: string[]): RedisPipeline;
  wait(replicas: number, milliseconds: number): RedisPipeline;
  exec(): Promise<[error: Error | null, reply: unknown][] | null>;
}

/** The Redis client of a queue. BullMQ 6 has it in the backend, BullMQ 5 in the queue itself. */
export function redisClientOf(queue: object): Promise<RedisClient> {
  const owner = 'getBackend' in queue ? (queue.getBackend as () => object).call(queue) : queue;
  return Reflect.get(owner, 'client') as Promise<RedisClient>;
}

type ClientClass = new (...args: never[]) => EventEmitter;

/** BullMQ's connection to Postgres: a pool of pg clients, and one more client, which is notified of tasks. */
interface PostgresConnection {
  pgModule: { Client: ClientClass } | undefined;
  pool: { Client: ClientClass };
}

/**
 * Patches the Postgres clients of BullMQ 6. While it connects, checks its tables or closes, their errors have no listener, and a lost
 * client would end the process. The code that awaits the client gets the error anyway.
 */
export function patchPgClients(backend: BullmqBackend): BullmqBackend {
  return (...settings) => {
    const made = backend(...settings);
    const connection = Reflect.get(made, 'connection') as Partial<PostgresConnection> | undefined;
    if (connection?.pgModule && connection.pool) {
      const { Client } = connection.pgModule;
      const Patched = class extends Client {
        override emit(...[event, ...args]: Parameters<EventEmitter['emit']>): boolean {
          return event === 'error' && this.listenerCount(event) === 0 ? false : super.emit(event, ...args);
        }
      };
      connection.pgModule = { Client: Patched };
      connection.pool.Client = Patched;
    }
    return made;
  };
}

/** Time before a worker that could not start, or that its server refuses, tries again. */
export const RETRY_DELAY_MS = 1_000;

/** The longest time that a worker waits for a notification. Then it checks for tasks that its connection has not reported. */
const MAX_WAIT_SECONDS = 5;

/** A worker that requeued a task whose method it lacks yields to others: the duration of that phase, and the longest delay of one fetch. */
const [YIELD_MS, MAX_DELAY_MS] = [60_000, 50];

/** The number of attempts to store the end of a task. A deadlock, or the restart of a server, is over by then. */
const ATTEMPTS = 3;

/** A BullMQ worker that does not lose tasks or their ends where BullMQ's own would. */
export class QueueWorker extends Worker<JobData> {
  /** The errors that are failures of tasks. */
  readonly failures = new WeakSet<Error>();
  readonly #abandoned = new AbortController();
  #yieldsUntil = 0;
  /** Called when the server has answered a request for a task. */
  onAnswer: () => void = () => {};

  constructor(...worker: ConstructorParameters<typeof Worker<JobData>>) {
    super(...worker);
    patchConnections(this);
  }

  /** Closes a worker whose server is down. BullMQ's own `close()` would keep renewing locks, and the process would not end. */
  async abandon(): Promise<void> {
    this.#abandoned.abort();
    stopWaiting(this);
    await this.lockManager.close();
    await this.disconnect();
  }

  /**
   * Leaves the next tasks to other workers for a while: a requeued task is due for all of them at once, and the quickest worker would
   * otherwise get it again and again.
   */
  yieldToOthers(): void {
    this.#yieldsUntil = performance.now() + YIELD_MS;
  }

  protected override async moveToActive(...lookup: Parameters<Worker<JobData>['moveToActive']>) {
    if (performance.now() < this.#yieldsUntil) await setTimeout(Math.random() * MAX_DELAY_MS);
    const job = await super.moveToActive(...lookup);
    this.onAnswer();
    return job;
  }

  protected override async handleCompleted(...end: Parameters<Worker<JobData>['handleCompleted']>) {
    return this.#store(() => super.handleCompleted(...end));
  }

  /**
   * If BullMQ cannot store the end of a task, or requeue it, it treats that error as a failure of the task. Such a task keeps its lock
   * instead, and is run again when the lock expires.
   */
  protected override async handleFailed(...failure: Parameters<Worker<JobData>['handleFailed']>) {
    const [error] = failure;
    if (this.failures.has(error) || error instanceof UnrecoverableError) return this.#store(() => super.handleFailed(...failure));
    // A `DelayedError` means that the job was requeued.
    if (!(error instanceof DelayedError)) this.emit('error', error);
    // BullMQ's own method returns undefined if it has no next task, despite its type.
    return undefined as never;
  }

  /** On Postgres, BullMQ waits for an hour if the next task is due in an hour, even if its connection is dead. */
  protected override getBlockTimeout(blockUntil: number): number {
    return Math.min(super.getBlockTimeout(blockUntil), MAX_WAIT_SECONDS);
  }

  /** Stores the end of a task, with retries. If the worker is abandoned meanwhile, the task keeps its lock. */
  async #store<Next>(write: () => Promise<Next>): Promise<Next> {
    const { signal } = this.#abandoned;
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        return await write();
      } catch (error) {
        if (attempt === ATTEMPTS) throw error;
        await setTimeout(RETRY_DELAY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
    // BullMQ's own methods return undefined if they have no next task, despite their types.
    return undefined as never;
  }
}

/** A task that waits for its start. */
interface Waiting {
  /** True if it has to run without any other task beside it. */
  readonly isAlone: boolean;
  start(): void;
}

/**
 * Makes a task that may have killed its worker run without any other task of this process beside it. The others wait for it meanwhile, in
 * order.
 */
export class Isolation {
  readonly #waiting: Waiting[] = [];
  #running = 0;
  #isOccupied = false;

  /** Resolves once the task may run, with a function to call when it has ended. */
  async enter(isAlone: boolean): Promise<() => void> {
    await new Promise<void>((start) => {
      this.#waiting.push({ isAlone, start });
      this.#next();
    });
    return () => {
      this.#running -= 1;
      if (isAlone) this.#isOccupied = false;
      this.#next();
    };
  }

  #next(): void {
    for (let [first] = this.#waiting; first && !this.#isOccupied; [first] = this.#waiting) {
      if (first.isAlone && this.#running > 0) return;
      this.#waiting.shift();
      this.#running += 1;
      this.#isOccupied = first.isAlone;
      first.start();
    }
  }
}
