import { createPostgresBackend } from 'bullmq';
import { type BullmqEngineOptions, bullmqEngine } from 'nestjs-background-tasks/bullmq';

const { DATABASE_URL: databaseUrl = 'postgres://localhost/postgres', CLOSING_INTERVAL = 60_000 } = process.env;

export { databaseUrl };

/** Only for this sample: an application reads its secret from the environment. */
export const jwtSecret = 'not for production';

/** Milliseconds between two runs of the job that closes orders. */
export const closingInterval = Number(CLOSING_INTERVAL);

/** The queue is in the same database as the orders. */
export function engine(worker: BullmqEngineOptions['worker']) {
  return bullmqEngine({
    connection: { connectionString: databaseUrl, migrate: true },
    backend: createPostgresBackend,
    queue: 'orders',
    worker,
  });
}
