import { ownBackends } from '../test/support/backends.js';
import { Child } from './support/child.js';
import { Comparison, type Figures, printTargets, quick } from './support/compare.js';

// What the way through the package costs over BullMQ by hand, on servers of its own.

const REQUESTS = { Redis: quick ? 500 : 3_000, Postgres: quick ? 200 : 600 };

for (const backend of ownBackends) {
  const server = await backend.start();
  try {
    const peers = { 'raw BullMQ': 'raw', 'this package': 'package' };
    const children = await Promise.all(
      Object.entries(peers).map(async ([name, peer]) => ({
        name,
        child: await Child.fork(new URL('engine-peers.js', import.meta.url), peer, backend.name, server.url),
      })),
    );
    for (const [what, withWorker] of [
      ['enqueued', false],
      ['enqueued and run', true],
    ] as const) {
      const comparison = await Comparison.of(
        `${backend.name}, two tasks a request, ${what}`,
        children.map(({ name, child }) => ({ name, round: () => child.call<Figures>('measure', REQUESTS[backend.name], withWorker) })),
      );
      comparison.print('tasks/s', 'raw BullMQ');
      printTargets([[`${backend.name}, ${what}`, comparison.ratio('this package', 'raw BullMQ', 'tasks/s'), '0.9, or more']]);
    }
    await Promise.all(children.map(({ child }) => child.close()));
  } finally {
    await server.remove();
  }
}
