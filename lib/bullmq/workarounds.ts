import { EventEmitter } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { DelayedError, UnrecoverableError, Worker } from 'bullmq';
import { BackgroundTasksError } from '../task/errors.js';
import type { JobData } from './job.js';
import type { BullmqBackend } from './options.js';

/** The first BullMQ whose worker can be told to stop its jobs. */
const OLDEST = '5.64';

/** @throws BackgroundTasksError `MISSING_PACKAGE` if BullMQ is too old. */
export function assertBullmq(): void {
  if ('cancelAllJobs' in Worker.prototype) return;
  throw new BackgroundTasksError(
    'MISSING_PACKAGE',
    `bullmqEngine() needs BullMQ ${OLDEST} or later, or 6, and finds an older one: npm install bullmq@latest`,
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

/** How often the end of a task is written down if that fails. A deadlock, or the restart of a server, is over by then. */
const TRIES = 3;

/** BullMQ's worker, where it would lose a task, or its end. */
export class QueueWorker extends Worker<JobData> {
  /** The failures of tasks. */
  readonly failures = new WeakSet<Error>();
  readonly #abandoned = new AbortController();
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

  protected override async moveToActive(...token: Parameters<Worker<JobData>['moveToActive']>) {
    const job = await super.moveToActive(...token);
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
