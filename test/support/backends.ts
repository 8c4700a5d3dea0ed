import * as bullmq from 'bullmq';
import { type BullmqEngineOptions, bullmqEngine } from 'nestjs-background-tasks/bullmq';
import type { BackgroundTasksEngine } from 'nestjs-background-tasks';
import { type Server, hasRedisServer, startPostgres, startRedis } from './servers.js';

/** A server that BullMQ keeps its jobs in. */
export interface Backend<Running = Pick<Server, 'url' | 'remove'>> {
  readonly name: 'Postgres' | 'Redis';
  start(): Promise<Running>;
  /** How the server is connected to. */
  settings(url: string): Pick<BullmqEngineOptions, 'connection' | 'backend'>;
}

const postgres: Backend<Server> = {
  name: 'Postgres',
  start: () => startPostgres(),
  settings: (url) => ({ connection: { connectionString: url, migrate: true }, backend: bullmq.createPostgresBackend }),
};

const redis: Backend<Server> = {
  name: 'Redis',
  start: startRedis,
  settings: (url) => ({ connection: url }),
};

const { REDIS_URL, REQUIRE_REDIS } = process.env;

if (REQUIRE_REDIS === '1' && !hasRedisServer) throw new Error('REQUIRE_REDIS is set, and there is no redis-server to be found');

/** BullMQ 5 has Redis alone. */
const hasPostgres = 'createPostgresBackend' in bullmq;

/** Those that a spec has to itself, to stop them, say. Postgres comes with a package, Redis must be installed. */
export const ownBackends: readonly Backend<Server>[] = [...(hasPostgres ? [postgres] : []), ...(hasRedisServer ? [redis] : [])];

/** Those that a spec can use. */
export const backends: readonly Backend[] = REDIS_URL
  ? [...(hasPostgres ? [postgres] : []), { ...redis, start: async () => ({ url: REDIS_URL, remove: async () => undefined }) }]
  : ownBackends;

/** The title of a skipped test, which tells what could not be tested. */
export const notTested = (tested: readonly Backend[]): string[] =>
  hasPostgres && tested.length < 2 ? ['Redis: install redis-server, or set REDIS_URL, to run these specs on it, too'] : [];

/** An engine on a server. */
export function engineOn(backend: Backend, url: string, options: Pick<BullmqEngineOptions, 'queue' | 'worker'>): BackgroundTasksEngine {
  return bullmqEngine({ ...backend.settings(url), ...options });
}

/** The queue itself, past the engine. */
export function queueOn(backend: Backend, url: string, name: string): bullmq.Queue {
  const { connection, backend: factory } = backend.settings(url);
  const options = { connection: typeof connection === 'string' ? { url: connection } : connection };
  return new bullmq.Queue(name, options, factory as undefined);
}
