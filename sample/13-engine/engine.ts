import { createPostgresBackend } from 'bullmq';
import { type BullmqEngineOptions, bullmqEngine } from 'nestjs-background-tasks/bullmq';

const { REDIS_URL, DATABASE_URL = 'postgres://localhost/postgres' } = process.env;

export const queueName = 'mail';

/** The server of the queue: Redis if REDIS_URL is set, and Postgres otherwise. */
export const server = REDIS_URL
  ? { connection: REDIS_URL }
  : { connection: { connectionString: DATABASE_URL, migrate: true }, backend: createPostgresBackend };

export function engine(worker: BullmqEngineOptions['worker']) {
  return bullmqEngine({ ...server, queue: queueName, worker });
}
