import { Logger } from '@nestjs/common';
import { messageOf } from '../task/describe.js';
import { BackgroundTasksError } from '../task/errors.js';
import { RateLimit } from '../task/log.js';
import { type BullmqClient, type ResolvedBullmqOptions, refusalOfOptions } from './options.js';

// A connection whose other end is gone without a word, such as behind a firewall that drops packets, is noticed by its silence alone.

/** Milliseconds after which a connection that was lost, or that was never there, is tried again. */
const retryStrategy = (times: number): number => Math.min(times * 100, 1_000);

/**
 * What a server says that is not the primary, or not yet. A failover that keeps the address, as managed ones do, leaves connections on a node
 * that has become a replica: nothing else ends them.
 *
 * UNBLOCKED is what a blocked command of such a node ends with.
 */
const NOT_PRIMARY = /^(READONLY|MASTERDOWN|LOADING|CLUSTERDOWN|UNBLOCKED)\b/;

/** Connects again. The command is not sent again: it may be part of a pipeline, of which another part has landed. */
const reconnectOnError = (error: Error): boolean => NOT_PRIMARY.test(error.message);

/** The connection that requests wait for: it fails fast. With ioredis' own settings it would wait for Redis for ever. */
export function producerConnection({ connection, backend }: ResolvedBullmqOptions, queue: string): object {
  if (typeof connection === 'function') return made(connection as () => BullmqClient, queue, { enableOfflineQueue: false });
  // One, as calls go one by one: each that is dead would take its own time to show.
  if (backend) return asPostgres(connection, { max: 1, connectionTimeoutMillis: 1_000, query_timeout: 3_000 });
  const limits = { connectTimeout: 3_000, commandTimeout: 1_000, socketTimeout: 3_000, reconnectOnError };
  return { ...limits, ...asRedis(connection), enableOfflineQueue: false, retryStrategy };
}

/** The connection of a worker, which waits: for tasks, and for a server that is away. */
export function workerConnection({ connection, backend }: ResolvedBullmqOptions, queue: string): object {
  if (typeof connection === 'function') return made(connection as () => BullmqClient, queue, {});
  if (backend) return asPostgres(connection, { connectionTimeoutMillis: 5_000, query_timeout: 5_000 });
  // A worker waits for tasks for 10 seconds at a time, in which it hears nothing.
  const patience = { commandTimeout: undefined, socketTimeout: 15_000, maxRetriesPerRequest: null };
  return { reconnectOnError, ...asRedis(connection), ...patience, enableOfflineQueue: true, retryStrategy };
}

/** What BullMQ and the engine read and set of a client of ioredis. Both hold for what is sent from then on. */
interface ClientOfUser extends BullmqClient {
  readonly isCluster?: boolean;
  readonly options?: Record<string, unknown> & { redisOptions?: Record<string, unknown> };
}

/**
 * A client that the function of the application makes. Commands wait for as long as they have to in a worker, and in no queue of the client for
 * requests: it would send them when nobody waits any more.
 *
 * @throws BackgroundTasksError `INVALID_OPTION` for a client that cannot be used.
 */
function made(make: () => BullmqClient, queue: string, overrides: object): object {
  const client: ClientOfUser = make();
  const refusal = refusalOf(client, queue);
  if (refusal !== undefined) {
    if (typeof client?.disconnect === 'function') client.disconnect();
    throw new BackgroundTasksError('INVALID_OPTION', refusal);
  }
  Object.assign(client.options ?? {}, { maxRetriesPerRequest: null }, overrides);
  if (client.options?.redisOptions) client.options.redisOptions.maxRetriesPerRequest = null;
  return client;
}

function refusalOf(client: ClientOfUser, queue: string): string | undefined {
  if (typeof client !== 'object' || client === null || !('duplicate' in client) || !('status' in client))
    return 'Expected the function `connection` of bullmqEngine() to return a client of ioredis, such as `new Cluster([…])`, at each call';
  if (clients.has(client))
    return 'Expected the function `connection` of bullmqEngine() to return a new client at each call, got the same one again: make it in the function';
  clients.add(client);
  const { isCluster, options } = client;
  const refusal = refusalOfOptions(options ?? {}) ?? refusalOfOptions(options?.redisOptions ?? {});
  if (refusal !== undefined) return refusal;
  if (isCluster && !/\{[^}]+\}/.test(queue))
    return (
      `The queue "${queue}" is on a Redis Cluster, which keeps its keys on one node only if its name has a part in braces: ` +
      `name it "{${queue.replaceAll(/[{}]/g, '')}}"`
    );
  return undefined;
}

/** Those that the engine has got, each for one connection. */
const clients = new WeakSet<object>();

/** Closes the client that a function made for a queue or a worker, which BullMQ leaves open. */
export function disconnectMade(connection: object): void {
  if (clients.has(connection)) (connection as BullmqClient).disconnect();
}

function asRedis(connection: string | object): object {
  return typeof connection === 'string' ? { url: connection } : connection;
}

function asPostgres(connection: string | object, limits: object): object {
  // Keep-alive, for whatever stands in between not to forget a connection that is idle.
  const defaults = { ...limits, keepAlive: true, keepAliveInitialDelayMillis: 10_000 };
  return typeof connection === 'string' ? { ...defaults, connectionString: connection } : { ...defaults, ...connection };
}

/** Time for which further errors of a connection stay unlogged: one that is away reports every attempt. */
const QUIET_MS = 10_000;

/**
 * Logs the first error of a connection in a while, and that it works again. BullMQ's `error` event must have a listener: without one, it would
 * end the process.
 */
export class ConnectionLog {
  readonly #name: string;
  readonly #logger = new Logger('BackgroundTasks');
  readonly #limit = new RateLimit(1, QUIET_MS);
  #saysFailed = false;

  constructor(name: string) {
    this.#name = name;
  }

  readonly failed = (error: unknown): void => {
    this.#limit.pass('', () => {
      this.#saysFailed = true;
      this.#logger.warn(`${this.#name}: ${messageOf(error)}; further errors are not logged for ${QUIET_MS / 1_000} s`);
    });
  };

  works(): void {
    if (!this.#saysFailed) return;
    this.#saysFailed = false;
    this.say('is connected again');
  }

  say(what: string): void {
    this.#logger.log(`${this.#name} ${what}`);
  }
}
