import { Child } from './support/child.js';
import { Comparison, type Figures, type Peer, printTargets, quick } from './support/compare.js';
import { type Load, Server, closeClient } from './support/http.js';

// Shows if a task costs more when there are many.

const LARGEST = quick ? 10_000 : 100_000;

const children: Child[] = [];
const lists: Peer[] = [];
for (const size of [1, 100, 1000, 10_000, LARGEST].filter((each, index, all) => all.indexOf(each) === index)) {
  const child = await Child.fork(new URL('runner-peers.js', import.meta.url));
  children.push(child);
  // As many tasks in each round, whatever the size of the list.
  lists.push({
    name: `a list of ${size}`,
    round: () => child.call<Figures>('run', 'oneList', 'sync', size, Infinity, LARGEST / size),
  });
}
const bySize = await Comparison.of('Cost of a task by the size of its list', lists);
bySize.print('ns/task', 'a list of 100');
printTargets([[`a list of ${LARGEST} / of 100`, bySize.ratio(`a list of ${LARGEST}`, 'a list of 100', 'ns/task'), '1.2']]);
await Promise.all(children.map((child) => child.close()));

const LOAD: Load = { amount: quick ? 1000 : 3000, connections: 16 };
const FIGURE = 'CPU µs/request';

const servers: Server[] = [];
const peers: Peer[] = [];
const most = quick ? 1000 : 10_000;
for (const [application, what, count] of [
  ['held/ParameterHeld', '`@BackgroundTasks()`', 1],
  ['held/ParameterHeld', '`@BackgroundTasks()`', 100],
  ['held/ParameterHeld', '`@BackgroundTasks()`', most],
  ['held/BareHeld', 'bare route', 1],
  ['held/BareHeld', 'bare route', most],
] as const) {
  const server = await Server.start('fastify', application);
  servers.push(server);
  await server.hold(count);
  peers.push({ name: `${what}, ${count} in flight`, round: () => server.measure(LOAD) });
}
const byFlight = await Comparison.of('Cost of a request by how many are in flight, Fastify', peers);
byFlight.print(FIGURE, '`@BackgroundTasks()`, 1 in flight');
printTargets([
  [
    `${most} in flight / 1, one task`,
    byFlight.ratio(`\`@BackgroundTasks()\`, ${most} in flight`, '`@BackgroundTasks()`, 1 in flight', FIGURE),
    '1.2',
  ],
  [`${most} in flight / 1, bare route`, byFlight.ratio(`bare route, ${most} in flight`, 'bare route, 1 in flight', FIGURE), ''],
]);
await Promise.all(servers.map((server) => server.close()));

await closeClient();
