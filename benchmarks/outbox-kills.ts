import { fileURLToPath } from 'node:url';
import { ownBackends } from '../test/support/backends.js';
import { outboxTrial } from '../test/support/outbox-trial.js';
import { quick } from './support/compare.js';

// An order and its task in one transaction, under kills: orders without a task, tasks without an order, and effects that are written twice
// are to be 0.

const program = [process.execPath, fileURLToPath(new URL('../test/support/outbox.app.js', import.meta.url))];

for (const backend of ownBackends) {
  const result = await outboxTrial({
    backend,
    program,
    clients: 30,
    apiKills: quick ? 3 : 40,
    workerKills: quick ? 2 : 12,
    databaseStops: quick ? 1 : 3,
    engineAway: quick ? 3_000 : 60_000,
  });
  console.log(backend.name, result);
}
