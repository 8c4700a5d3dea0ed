import { createPostgresBackend } from 'bullmq';
import { type BullmqEngineOptions, bullmqEngine } from 'nestjs-background-tasks/bullmq';

const { DATABASE_URL: databaseUrl = 'postgres://localhost/postgres', CLOSING_INTERVAL = 60_000 } = process.env;

export { databaseUrl };

/** A secret for a sample alone. */
export const jwtSecret = 'not for production';

/** Milliseconds between two runs of the job that closes orders. */
export const closingInterval = Number(CLOSING_INTERVAL);

/** The queue is in the database that the orders are in. */
export function engine(worker: BullmqEngineOptions['worker']) {
  return bullmqEngine({
    connection: { connectionString: databaseUrl, migrate: true },
    backend: createPostgresBackend,
    queue: 'orders',
    worker,
  });
}
