import { Pool } from 'pg';
import { ownBackends } from '../test/support/backends.js';
import { startPostgres } from '../test/support/servers.js';
import { Child } from './support/child.js';
import { Comparison, type Figures, printTargets, quick } from './support/compare.js';
import { closeClient, load } from './support/http.js';

// An order in a transaction with one task, 50 requests at once: through the outbox, and with a task that the engine gets before the
// response. The database writes each commit to the disk. The time of a round ends when the engine has all tasks.

const AMOUNT = quick ? 500 : 2_000;
const [WARM_UP, CONNECTIONS] = [200, 50];
const TARGET = { Postgres: '1.0, or more', Redis: '0.6, or more' };

for (const backend of ownBackends) {
  const [database, server] = await Promise.all([
    startPostgres({ durable: true }),
    backend.name === 'Postgres' ? startPostgres({ durable: true }) : backend.start(),
  ]);
  try {
    const pool = new Pool({ connectionString: database.url, max: 1 });
    await pool.query('CREATE TABLE orders (id text PRIMARY KEY)');
    await pool.end();
    const names = ['group commit', 'outbox'];
    const children = await Promise.all(
      names.map((name) => Child.fork(new URL('outbox-peers.js', import.meta.url), name, backend.name, server.url, database.url)),
    );
    const round = async (child: Child): Promise<Figures> => {
      const url = await child.call<string>('start');
      await load(url, { amount: WARM_UP, connections: CONNECTIONS });
      const [start, cpu] = [performance.now(), await child.call<number>('cpu')];
      await load(url, { amount: AMOUNT, connections: CONNECTIONS });
      // The shutdown hands over what is committed.
      await child.call('stop');
      const used = (await child.call<number>('cpu')) - cpu;
      return { 'orders/s': AMOUNT / ((performance.now() - start) / 1_000), 'CPU µs/order': used / AMOUNT };
    };
    const comparison = await Comparison.of(
      `${backend.name}, an order with one task, 50 at once`,
      children.map((child, index) => ({ name: names[index]!, round: () => round(child) })),
    );
    comparison.print('orders/s', 'group commit');
    printTargets([[`${backend.name}, through the outbox`, comparison.ratio('outbox', 'group commit', 'orders/s'), TARGET[backend.name]]]);
    await Promise.all(children.map((child) => child.close()));
  } finally {
    await Promise.all([database.remove(), server.remove()]);
  }
}
await closeClient();
