import { ownBackends } from '../test/support/backends.js';
import { startPostgres } from '../test/support/servers.js';
import { Child } from './support/child.js';
import { Comparison, type Figures, printTargets, quick } from './support/compare.js';
import { closeClient, load } from './support/http.js';

// A route that adds one task, through the package and with an `addBulk` per request by hand. Postgres writes each commit to the disk.

const REQUESTS = { Redis: quick ? 1_000 : 5_000, Postgres: quick ? 500 : 2_000 };
const WARM_UP = 200;
const [ALONE, TOGETHER] = [1, 50];

interface Kind {
  readonly what: string;
  readonly connections: number;
  readonly withWorker: boolean;
  readonly target: Partial<Record<'Postgres' | 'Redis', string>>;
}

const KINDS: readonly Kind[] = [
  {
    what: '50 requests at once, enqueued',
    connections: TOGETHER,
    withWorker: false,
    target: { Postgres: '10, or more', Redis: '1.5, or more' },
  },
  { what: '50 requests at once, enqueued and run', connections: TOGETHER, withWorker: true, target: { Redis: '1.0, or more' } },
  { what: 'one request at a time', connections: ALONE, withWorker: false, target: { Postgres: '0.95, or more', Redis: '0.95, or more' } },
];

for (const backend of ownBackends) {
  const server = backend.name === 'Postgres' ? await startPostgres({ durable: true }) : await backend.start();
  try {
    const children = await Promise.all(
      ['by hand', 'this package'].map(async (name) => ({
        name,
        child: await Child.fork(new URL('engine-peers.js', import.meta.url), name, backend.name, server.url),
      })),
    );
    for (const { what, connections, withWorker, target } of KINDS) {
      const amount = Math.ceil(REQUESTS[backend.name] / (connections === ALONE ? 5 : 1));
      const round = async (child: Child): Promise<Figures> => {
        const url = await child.call<string>('start', withWorker);
        await load(url, { amount: WARM_UP, connections });
        if (withWorker) await child.call('ran', WARM_UP);
        const [start, cpu] = [performance.now(), await child.call<number>('cpu')];
        let perSecond = await load(url, { amount, connections });
        if (withWorker) {
          await child.call('ran', amount);
          perSecond = amount / ((performance.now() - start) / 1_000);
        }
        const used = (await child.call<number>('cpu')) - cpu;
        await child.call('stop');
        return { 'tasks/s': perSecond, 'CPU µs/task': used / amount };
      };
      const comparison = await Comparison.of(
        `${backend.name}, ${what}`,
        children.map(({ name, child }) => ({ name, round: () => round(child) })),
      );
      comparison.print('tasks/s', 'by hand');
      const goal = target[backend.name];
      if (goal) printTargets([[`${backend.name}, ${what}`, comparison.ratio('this package', 'by hand', 'tasks/s'), goal]]);
    }
    await Promise.all(children.map(({ child }) => child.close()));
  } finally {
    await server.remove();
  }
}
await closeClient();
