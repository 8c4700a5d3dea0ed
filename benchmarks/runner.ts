import { Child } from './support/child.js';
import { Comparison, type Figures, type Peer, printTargets, quick } from './support/compare.js';

// The cost of adding and running an empty task.

const COUNT = quick ? 10_000 : 100_000;

async function compare(title: string, baseline: string, peers: Record<string, [peer: string, task: string, concurrency: number]>) {
  const children: Child[] = [];
  const started: Peer[] = [];
  for (const [name, [peer, task, concurrency]] of Object.entries(peers)) {
    const child = await Child.fork(new URL('runner-peers.js', import.meta.url));
    children.push(child);
    started.push({ name, round: () => child.call<Figures>('run', peer, task, COUNT, concurrency, 1) });
  }
  const comparison = await Comparison.of(title, started);
  comparison.print('ns/task', baseline);
  await Promise.all(children.map((child) => child.close()));
  return comparison;
}

const inTurn = await compare(`${COUNT} tasks, one after the other`, 'plain loop, async task', {
  'plain loop, async task': ['loop', 'async', 1],
  'plain loop, sync task': ['loop', 'sync', 1],
  'loop that keeps the context, async task': ['boundLoop', 'async', 1],
  'loop that keeps the context, sync task': ['boundLoop', 'sync', 1],
  'one list, async task': ['oneList', 'async', Infinity],
  'one list, sync task': ['oneList', 'sync', Infinity],
  'a list per task, async task': ['manyLists', 'async', Infinity],
  'a list per task, sync task': ['manyLists', 'sync', Infinity],
  'p-queue, async task': ['pQueue', 'async', 1],
  'fastq, async task': ['fastq', 'async', 1],
  'p-limit, async task': ['pLimit', 'async', 1],
});
printTargets([
  ['one list / plain loop, async task', inTurn.ratio('one list, async task', 'plain loop, async task', 'ns/task'), '2'],
  ['one list / plain loop, sync task', inTurn.ratio('one list, sync task', 'plain loop, sync task', 'ns/task'), '2'],
  [
    'one list / loop that keeps the context, async task',
    inTurn.ratio('one list, async task', 'loop that keeps the context, async task', 'ns/task'),
    '1.5',
  ],
  [
    'one list / loop that keeps the context, sync task',
    inTurn.ratio('one list, sync task', 'loop that keeps the context, sync task', 'ns/task'),
    '1.5',
  ],
]);

const atOnce = await compare(`${COUNT} async tasks, 16 at once`, 'a list per task', {
  'a list per task': ['manyLists', 'async', 16],
  'p-queue': ['pQueue', 'async', 16],
  fastq: ['fastq', 'async', 16],
  'p-limit': ['pLimit', 'async', 16],
});
const fastest = ['p-queue', 'fastq', 'p-limit'].reduce((a, b) => (atOnce.median(a, 'ns/task') < atOnce.median(b, 'ns/task') ? a : b));
printTargets([[`16 at once / ${fastest}, the fastest`, atOnce.ratio('a list per task', fastest, 'ns/task'), '1.0']]);

const MANY = quick ? 100_000 : 1_000_000;
const child = await Child.fork(new URL('runner-peers.js', import.meta.url));
const stalls: [string, string, string][] = [];
for (const kind of ['sync', 'async']) {
  const { adding, running } = await child.call<{ adding: number; running: number }>('longestStall', kind, MANY);
  stalls.push([`longest stall, ${MANY} ${kind} tasks are added, a thousand at a time, ms`, adding.toFixed(1), '20']);
  stalls.push([`longest stall, ${MANY} ${kind} tasks run, ms`, running.toFixed(1), '20']);
}
await child.close();
printTargets(stalls);
