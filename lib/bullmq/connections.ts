import { Logger } from '@nestjs/common';
import { messageOf } from '../task/describe.js';
import { BackgroundTasksError } from '../task/errors.js';
import { RateLimit } from '../task/log.js';
import { type BullmqClient, type ResolvedBullmqOptions, unsupportedOption } from './options.js';

// If the other end of a connection is gone without notice, for example behind a firewall that drops packets, only its silence shows that.

/** Time before the next attempt to open a connection, in ms. */
const retryStrategy = (times: number): number => Math.min(times * 100, 1_000);

/**
 * The errors of a server that is not, or not yet, the primary. A failover that keeps the address, as managed ones do, leaves connections on
 * a node that has become a replica, and nothing else closes them.
 *
 * UNBLOCKED is the error of a blocking command on such a node.
 */
const NOT_PRIMARY = /^(READONLY|MASTERDOWN|LOADING|CLUSTERDOWN|UNBLOCKED)\b/;

/** Reconnects, but does not resend the command: it may be part of a pipeline whose other commands have succeeded. */
const reconnectOnError = (error: Error): boolean => NOT_PRIMARY.test(error.message);

/** The connection for requests, which fails fast. With the defaults of ioredis it would wait for Redis for ever. */
export function producerConnection({ connection, backend }: ResolvedBullmqOptions, queue: string): object {
  if (typeof connection === 'function') return createClient(connection as () => BullmqClient, queue, { enableOfflineQueue: false });
  // A single connection, as there is one call at a time, and each dead connection would take its own timeout to detect.
  if (backend) return asPostgres(connection, { max: 1, connectionTimeoutMillis: 1_000, query_timeout: 3_000 });
  const limits = { connectTimeout: 3_000, commandTimeout: 1_000, socketTimeout: 3_000, reconnectOnError };
  return { ...limits, ...asRedis(connection), enableOfflineQueue: false, retryStrategy };
}

/** The connection of a worker, which waits for tasks, and for a server that is down. */
export function workerConnection({ connection, backend }: ResolvedBullmqOptions, queue: string): object {
  if (typeof connection === 'function') return createClient(connection as () => BullmqClient, queue, {});
  if (backend) return asPostgres(connection, { connectionTimeoutMillis: 5_000, query_timeout: 5_000 });
  // A worker waits for tasks for up to 10 seconds, in which it receives nothing.
  const limits = { commandTimeout: undefined, socketTimeout: 15_000, maxRetriesPerRequest: null };
  return { reconnectOnError, ...asRedis(connection), ...limits, enableOfflineQueue: true, retryStrategy };
}

/** The parts of an ioredis client that BullMQ and the engine read and change. Changes apply to later commands. */
interface ClientOfUser extends BullmqClient {
  readonly isCluster?: boolean;
  readonly options?: Record<string, unknown> & { redisOptions?: Record<string, unknown> };
}

/**
 * Makes a client with the function of the application. In a worker, commands wait as long as necessary. For requests, the client must not
 * queue commands: it would send them when nothing waits for them any more.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION` for a client that cannot be used.
 */
function createClient(make: () => BullmqClient, queue: string, overrides: object): object {
  const client: ClientOfUser = make();
  const refusal = problemOfClient(client, queue);
  if (refusal !== undefined) {
    if (typeof client?.disconnect === 'function') client.disconnect();
    throw new BackgroundTasksError('BACKGROUND_TASK_INVALID_OPTION', refusal);
  }
  Object.assign(client.options ?? {}, { maxRetriesPerRequest: null }, overrides);
  if (client.options?.redisOptions) client.options.redisOptions.maxRetriesPerRequest = null;
  return client;
}

function problemOfClient(client: ClientOfUser, queue: string): string | undefined {
  if (typeof client !== 'object' || client === null || !('duplicate' in client) || !('status' in client))
    return 'Expected the function `connection` of bullmqEngine() to return a client of ioredis, such as `new Cluster([…])`, at each call';
  if (clients.has(client))
    return 'Expected the function `connection` of bullmqEngine() to return a new client at each call, got the same one again; create it in the function';
  clients.add(client);
  const { isCluster, options } = client;
  const refusal = unsupportedOption(options ?? {}) ?? unsupportedOption(options?.redisOptions ?? {});
  if (refusal !== undefined) return refusal;
  if (isCluster && !/\{[^}]+\}/.test(queue))
    return (
      `The queue "${queue}" is on a Redis Cluster, which keeps its keys on one node only if its name has a part in braces: ` +
      `name it "{${queue.replaceAll(/[{}]/g, '')}}"`
    );
  return undefined;
}

/** The clients that the engine has received, one for each connection. */
const clients = new WeakSet<object>();

/** Closes a client that a function made for a queue or a worker, as BullMQ leaves it open. */
export function disconnectClient(connection: object): void {
  if (clients.has(connection)) (connection as BullmqClient).disconnect();
}

function asRedis(connection: string | object): object {
  return typeof connection === 'string' ? { url: connection } : connection;
}

function asPostgres(connection: string | object, limits: object): object {
  // Keep-alive, so that firewalls and proxies do not drop an idle connection.
  const defaults = { ...limits, keepAlive: true, keepAliveInitialDelayMillis: 10_000 };
  return typeof connection === 'string' ? { ...defaults, connectionString: connection } : { ...defaults, ...connection };
}

/** Time in which further errors of a connection are not logged: while a server is down, every attempt reports one. */
const QUIET_MS = 10_000;

/**
 * Logs the first error of a connection in a period, and when it works again. BullMQ's `error` event must have a listener: without one, it
 * would end the process.
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

  say(predicate: string): void {
    this.#logger.log(`${this.#name} ${predicate}`);
  }
}
