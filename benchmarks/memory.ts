import { Child } from './support/child.js';
import { printTable, quick } from './support/compare.js';
import { Server, closeClient, load } from './support/http.js';

// Bytes on the heap after a garbage collection. They vary little, so there are no rounds.

const TASKS = quick ? 10_000 : 100_000;
const HELD = quick ? 500 : 2000;
const REQUESTS = quick ? 2000 : 200_000;

const bytes = (value: number): string => `${Math.round(value)}`;

const child = await Child.fork(new URL('runner-peers.js', import.meta.url));
const pending = await child.call<{ list: number; bound: number }>('bytesPerPendingTask', TASKS);
await child.close();
console.log(`\n### Memory of ${TASKS} pending tasks\n`);
printTable(
  ['', 'bytes/task'],
  [
    ['`addTask(func, n)` (target: 200)', bytes(pending.list)],
    ['`AsyncResource.bind(() => func(n))` in an array', bytes(pending.bound)],
  ],
);

async function bytesPerRequest(application: string): Promise<number> {
  const server = await Server.start('fastify', application);
  // The first requests compile what the later ones run.
  await load(server.url, { amount: 2000, connections: 16 });
  await server.hold(HELD / 4);
  const before = await server.call<number>('heap');
  await server.hold(HELD + HELD / 4);
  const after = await server.call<number>('heap');
  await server.close();
  return (after - before) / HELD;
}

console.log(`\n### Memory of ${HELD} requests in flight, Fastify\n`);
const bare = await bytesPerRequest('held/BareHeld');
const careful = await bytesPerRequest('held/CarefulHeld');
const parameter = await bytesPerRequest('held/ParameterHeld');
printTable(
  ['', 'bytes/request', 'more than bare'],
  [
    ['bare route', bytes(bare), ''],
    ['careful version by hand, one task', bytes(careful), bytes(careful - bare)],
    ['`@BackgroundTasks()`, one task', bytes(parameter), bytes(parameter - bare)],
  ],
);

console.log(`\n### Memory after requests with one task each, Fastify\n`);
const server = await Server.start('fastify', 'package/Parameter');
const rows: string[][] = [];
for (const part of [0.1, 0.5, 1]) {
  const amount = REQUESTS * (part - Number(rows.at(-1)?.[0] ?? 0) / REQUESTS);
  await load(server.url, { amount, connections: 16 });
  rows.push([`${REQUESTS * part}`, ((await server.call<number>('heap')) / 2 ** 20).toFixed(2)]);
}
printTable(['requests', 'heap, MiB'], rows);
await server.close();

await closeClient();
