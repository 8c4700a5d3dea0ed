import type { ResolvedBullmqOptions } from './options.js';

/** Milliseconds after which a connection that was lost, or that was never there, is tried again. */
const retryStrategy = (times: number): number => Math.min(times * 100, 1_000);

/** The connection that requests wait for: it fails fast. With ioredis' own settings it would wait for Redis for ever. */
export function producerConnection({ connection, backend }: ResolvedBullmqOptions): object {
  if (backend) return asPostgres(connection, { connectionTimeoutMillis: 1_000, query_timeout: 10_000 });
  return { commandTimeout: 1_000, ...asRedis(connection), enableOfflineQueue: false, retryStrategy };
}

/** The connection of a worker, which waits: for tasks, and for a server that is away. */
export function workerConnection({ connection, backend }: ResolvedBullmqOptions): object {
  if (backend) return asPostgres(connection, {});
  return { ...asRedis(connection), enableOfflineQueue: true, commandTimeout: undefined, maxRetriesPerRequest: null, retryStrategy };
}

function asRedis(connection: string | object): object {
  return typeof connection === 'string' ? { url: connection } : connection;
}

function asPostgres(connection: string | object, limits: object): object {
  return typeof connection === 'string' ? { ...limits, connectionString: connection } : { ...limits, ...connection };
}
