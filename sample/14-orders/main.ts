import { fork } from 'node:child_process';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startPostgres } from '../../test/support/servers.js';

// One command starts all of it: the API, a worker and, without DATABASE_URL, the Postgres of the specs.

const postgres = process.env.DATABASE_URL ? undefined : await startPostgres();
const env = { ...process.env, ...(postgres && { DATABASE_URL: postgres.url }) };

const programs = ['api', 'worker'].map((name) => {
  const path = fileURLToPath(new URL(`./${name}${extname(import.meta.url)}`, import.meta.url));
  return fork(path, { env });
});

const exits = programs.map((program) => new Promise((resolve) => program.once('exit', resolve)));
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => programs.forEach((program) => program.kill(signal)));
}
await Promise.all(exits);
await postgres?.remove();
