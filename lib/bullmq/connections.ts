import { Logger } from '@nestjs/common';
import { messageOf } from '../task/describe.js';
import { RateLimit } from '../task/log.js';
import type { ResolvedBullmqOptions } from './options.js';

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
export function producerConnection({ connection, backend }: ResolvedBullmqOptions): object {
  // One, as calls go one by one: each that is dead would take its own time to show.
  if (backend) return asPostgres(connection, { max: 1, connectionTimeoutMillis: 1_000, query_timeout: 3_000 });
  const limits = { connectTimeout: 3_000, commandTimeout: 1_000, socketTimeout: 3_000, reconnectOnError };
  return { ...limits, ...asRedis(connection), enableOfflineQueue: false, retryStrategy };
}

/** The connection of a worker, which waits: for tasks, and for a server that is away. */
export function workerConnection({ connection, backend }: ResolvedBullmqOptions): object {
  if (backend) return asPostgres(connection, { connectionTimeoutMillis: 5_000, query_timeout: 5_000 });
  // A worker waits for tasks for 10 seconds at a time, in which it hears nothing.
  const patience = { commandTimeout: undefined, socketTimeout: 15_000, maxRetriesPerRequest: null };
  return { reconnectOnError, ...asRedis(connection), ...patience, enableOfflineQueue: true, retryStrategy };
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

/** Logs the first error of a connection in a while. BullMQ's `error` event must have a listener: without one, it would end the process. */
export function connectionLog(name: string): (error: Error) => void {
  const logger = new Logger('BackgroundTasks');
  const limit = new RateLimit(1, QUIET_MS);
  return (error) =>
    limit.pass('', () => logger.warn(`${name}: ${messageOf(error)}; further errors are not logged for ${QUIET_MS / 1_000} s`));
}
