import { EventEmitter } from 'node:events';
import { performance } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { DelayedError, Queue, UnrecoverableError, Worker } from 'bullmq';
import { BackgroundTasksError } from '../task/errors.js';
import type { JobData } from './job.js';
import type { BullmqBackend } from './options.js';

/** The first BullMQ whose worker can be told to stop its jobs. */
const OLDEST = [5, 64, 0] as const;
/** The first BullMQ 5 whose worker comes back after an outage of Sentinels. */
const OLDEST_WITH_SENTINELS = [5, 81, 3] as const;
/** The first BullMQ 6 whose worker comes back after 10 s without Redis. */
const OLDEST_6 = [6, 3, 3] as const;

type Version = readonly [major: number, minor: number, patch: number];

/** @throws BackgroundTasksError `MISSING_PACKAGE` if BullMQ is too old, or is known to stop for good. */
export function assertBullmq(connection?: unknown, version: string | undefined = bullmqVersion()): void {
  const parts = version?.split(/[.-]/).map(Number);
  if (!('cancelAllJobs' in Worker.prototype) || (parts && isBefore(parts, OLDEST))) {
    throw wrongVersion(version, `${OLDEST.join('.')} or later, or 6`, 'bullmq@6');
  }
  // One that does not tell its version may be any.
  if (!parts) return;
  if (parts[0] === 6 && isBefore(parts, OLDEST_6)) {
    throw wrongVersion(version, `6.3.3 or later, as the worker of an earlier 6 never comes back after 10 s without Redis`, 'bullmq@^6.3.3');
  }
  const hasSentinels = typeof connection === 'object' && connection !== null && 'sentinels' in connection && connection.sentinels;
  if (parts[0] === 5 && hasSentinels && isBefore(parts, OLDEST_WITH_SENTINELS)) {
    throw wrongVersion(
      version,
      '5.81.3 or later for `sentinels`, as the worker of an earlier one never comes back after an outage of theirs',
      'bullmq@^5.81.3',
    );
  }
}

/** The version, as BullMQ writes it to its queues. BullMQ exports it nowhere else that both ES modules and bundles can read. */
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
    'MISSING_PACKAGE',
    `bullmqEngine() needs BullMQ ${needed}, and finds ${version ?? 'an older one'}: npm install ${install}`,
  );
}

/** The error for a driver that is not installed, which no waiting makes good; any other as it is. */
export function missingDriver(error: unknown): unknown {
  const [, driver] = (error instanceof Error && /could not load the optional '(\w+)' package/.exec(error.message)) || [];
  if (driver === undefined) return error;
  return new BackgroundTasksError(
    'MISSING_PACKAGE',
    `BullMQ reaches its server with the package ${driver}, and cannot load it: npm install ${driver}`,
  );
}

/** The client of ioredis 5, as far as it is mended. */
interface Client {
  socketTimeoutTimer: NodeJS.Timeout | undefined;
  disconnect(): void;
  on(event: 'close', listener: () => void): void;
}

/**
 * Mends what BullMQ 5, and the ioredis 5 that it comes with, leave behind in a `Queue` or a `Worker`. BullMQ 6 has none of these fields.
 *
 * A connection that is closed while it opens fails, and says so when its listeners have been taken off, which ends the process. And the timer
 * of `socketTimeout` runs on for a connection that is lost or closed, and keeps the process from ending.
 */
export function mendConnections(part: object): void {
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

/** Lets go of the connection that waits for tasks, which BullMQ 5 forgets as it disconnects a worker: it would be tried again for ever. */
function stopWaiting(worker: object): void {
  const connection = Reflect.get(worker, 'blockingConnection') as unknown;
  if (connection instanceof EventEmitter) clientOf(connection).disconnect();
}

/** BullMQ 5 makes it right away. */
function clientOf(connection: EventEmitter): Client {
  return Reflect.get(connection, '_client') as Client;
}

type ClientClass = new (...args: never[]) => EventEmitter;

/** BullMQ's connection to Postgres: a pool of pg's clients, and one more, which hears of tasks. */
interface PostgresConnection {
  pgModule: { Client: ClientClass } | undefined;
  pool: { Client: ClientClass };
}

/**
 * Mends what BullMQ 6 leaves open on Postgres. As it connects, looks at its tables and closes, nobody listens for the errors of its clients,
 * and one that is lost then ends the process. Whoever waits for it hears of the loss all the same.
 */
export function patchPgClients(backend: BullmqBackend): BullmqBackend {
  return (...settings) => {
    const made = backend(...settings);
    const connection = Reflect.get(made, 'connection') as Partial<PostgresConnection> | undefined;
    if (connection?.pgModule && connection.pool) {
      const { Client } = connection.pgModule;
      const Mended = class extends Client {
        override emit(...[event, ...args]: Parameters<EventEmitter['emit']>): boolean {
          return event === 'error' && this.listenerCount(event) === 0 ? false : super.emit(event, ...args);
        }
      };
      connection.pgModule = { Client: Mended };
      connection.pool.Client = Mended;
    }
    return made;
  };
}

/** Milliseconds before a worker that could not start, or whose server refuses it, tries again. */
export const RETRY_DELAY_MS = 1_000;

/** Seconds for which a worker waits for tasks at most: by then it looks whether there are some that its connection has not told it of. */
const LONGEST_WAIT = 5;

/** For how long, and how much at a time, a worker yields to others after it gave back a task whose method it lacks. */
const [YIELD_MS, LONGEST_YIELD_MS] = [60_000, 50];

/** How often the end of a task is written down if that fails. A deadlock, or the restart of a server, is over by then. */
const TRIES = 3;

/** BullMQ's worker, where it would lose a task, or its end. */
export class QueueWorker extends Worker<JobData> {
  /** The failures of tasks. */
  readonly failures = new WeakSet<Error>();
  readonly #abandoned = new AbortController();
  #yieldsUntil = 0;
  /** Called when the server has answered whether there is a task. */
  onAnswer: () => void = () => {};

  constructor(...worker: ConstructorParameters<typeof Worker<JobData>>) {
    super(...worker);
    mendConnections(this);
  }

  /** Without its server, a worker does not get as far as to stop renewing locks, and the process would not end. */
  async abandon(): Promise<void> {
    this.#abandoned.abort();
    stopWaiting(this);
    await this.lockManager.close();
    await this.disconnect();
  }

  /**
   * Leaves the next tasks to other workers, for a while, if these want them: a task that was given back is due for all of them at once, and
   * without this, the quickest worker would get it again and again.
   */
  yieldToOthers(): void {
    this.#yieldsUntil = performance.now() + YIELD_MS;
  }

  protected override async moveToActive(...lookup: Parameters<Worker<JobData>['moveToActive']>) {
    if (performance.now() < this.#yieldsUntil) await setTimeout(Math.random() * LONGEST_YIELD_MS);
    const job = await super.moveToActive(...lookup);
    this.onAnswer();
    return job;
  }

  protected override async handleCompleted(...end: Parameters<Worker<JobData>['handleCompleted']>) {
    return this.#writtenDown(() => super.handleCompleted(...end));
  }

  /**
   * BullMQ takes for a failure of the task whatever keeps it from writing down that the task has ended, or that it was given back. Such a task
   * is left to its lock, and is run again when that has run out.
   */
  protected override async handleFailed(...failure: Parameters<Worker<JobData>['handleFailed']>) {
    const [error] = failure;
    if (this.failures.has(error) || error instanceof UnrecoverableError) return this.#writtenDown(() => super.handleFailed(...failure));
    // The job was given back, as the worker closes.
    if (!(error instanceof DelayedError)) this.emit('error', error);
    // As BullMQ's own does when it has no other task at hand, whatever its type says.
    return undefined as never;
  }

  /** With a task that is due in an hour, BullMQ waits for an hour on Postgres, even if its connection is dead. */
  protected override getBlockTimeout(blockUntil: number): number {
    return Math.min(super.getBlockTimeout(blockUntil), LONGEST_WAIT);
  }

  /** What writes down the end of a task, tried again if that fails. A worker that is abandoned leaves the task to its lock. */
  async #writtenDown<Next>(write: () => Promise<Next>): Promise<Next> {
    const { signal } = this.#abandoned;
    for (let tries = 1; !signal.aborted; tries++) {
      try {
        return await write();
      } catch (error) {
        if (tries === TRIES) throw error;
        await setTimeout(RETRY_DELAY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
    // As BullMQ's own does when it has no other task at hand, whatever its type says.
    return undefined as never;
  }
}

/** A task that is to run with no other beside it, and what it waits for. */
interface Waiting {
  readonly isAlone: boolean;
  start(): void;
}

/**
 * Whose turn it is in a process, so that a task which may have killed its worker runs with no other task beside it. For that time, the others
 * wait for it, in order.
 */
export class Isolation {
  readonly #waiting: Waiting[] = [];
  #running = 0;
  #isOccupied = false;

  /** Resolves once the task may run; it has to call what it gets when it has ended. */
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
