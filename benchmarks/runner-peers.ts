import { AsyncResource } from 'node:async_hooks';
import fastq from 'fastq';
import PLimit from 'p-limit';
import PQueue from 'p-queue';
import { Lists } from './lists.js';
import { serve } from './support/child.js';

// The child process of runner.ts, scale.ts and memory.ts: does one peer's work.

type Task = (n: number) => unknown;

let ran = 0;
const tasks: Record<string, Task> = {
  sync: () => {
    ran += 1;
  },
  async: async () => {
    ran += 1;
  },
};

/** Each prepares, unmeasured, and returns the work. */
const peers: Record<string, (task: Task, count: number, concurrency: number) => Promise<() => Promise<void>>> = {
  async loop(task, count) {
    return async () => {
      const added: { task: Task; n: number }[] = [];
      for (let n = 0; n < count; n += 1) added.push({ task, n });
      for (const each of added) {
        try {
          await each.task(each.n);
        } catch (error) {
          console.error(error);
        }
      }
    };
  },

  /** The least that keeps the caller's context. */
  async boundLoop(task, count) {
    return async () => {
      const added: { context: AsyncResource; task: Task; args: unknown[] }[] = [];
      for (let n = 0; n < count; n += 1) added.push({ context: new AsyncResource('Task'), task, args: [n] });
      for (const each of added) {
        try {
          await each.context.runInAsyncScope(each.task as (...args: unknown[]) => unknown, undefined, ...each.args);
        } catch (error) {
          console.error(error);
        }
      }
    };
  },

  async oneList(task, count, concurrency) {
    const all = await Lists.open(concurrency);
    const [list] = await all.make(1);
    return async () => {
      for (let n = 0; n < count; n += 1) list!.addTask(task, n);
      await all.onIdle();
    };
  },

  async manyLists(task, count, concurrency) {
    const all = await Lists.open(concurrency);
    const lists = await all.make(count);
    return async () => {
      for (let n = 0; n < count; n += 1) lists[n]!.addTask(task, n);
      await all.onIdle();
    };
  },

  async pQueue(task, count, concurrency) {
    const queue = new PQueue({ concurrency });
    return async () => {
      for (let n = 0; n < count; n += 1) void queue.add(() => task(n));
      await queue.onIdle();
    };
  },

  async pLimit(task, count, concurrency) {
    const limit = PLimit(concurrency);
    return async () => {
      const ends: Promise<unknown>[] = [];
      for (let n = 0; n < count; n += 1) ends.push(limit(task, n));
      await Promise.all(ends);
    };
  },

  async fastq(task, count, concurrency) {
    const queue = fastq.promise(async (n: number) => task(n), concurrency);
    return async () => {
      for (let n = 0; n < count; n += 1) void queue.push(n);
      await queue.drained();
    };
  },
};

serve({
  /** Nanoseconds a task, of wall-clock and of processor time. */
  async run(peer: string, kind: string, count: number, concurrency: number, repeat: number) {
    const work = await peers[peer]!(tasks[kind]!, count, concurrency);
    globalThis.gc!();
    ran = 0;
    const [cpu, start] = [process.cpuUsage(), performance.now()];
    for (let time = 0; time < repeat; time += 1) await work();
    const [{ user, system }, milliseconds] = [process.cpuUsage(cpu), performance.now() - start];
    const total = count * repeat;
    if (ran !== total) throw new Error(`${peer}: ${ran} tasks ran, of ${total}`);
    return { 'ns/task': (milliseconds * 1e6) / total, 'CPU ns/task': ((user + system) * 1e3) / total };
  },

  /** Milliseconds: the longest stall of the event loop while so many tasks are added, a thousand at a time, and then run. */
  async longestStall(kind: string, count: number) {
    const all = await Lists.open();
    const [list] = await all.make(1);
    const task = tasks[kind]!;
    ran = 0;
    const longest = { adding: 0, running: 0 };
    let phase: keyof typeof longest = 'adding';
    let last = performance.now();
    let over = false;
    const look = (): void => {
      const now = performance.now();
      longest[phase] = Math.max(longest[phase], now - last);
      last = now;
      if (!over) setImmediate(look);
    };
    look();
    // Holds the others back.
    let start!: () => void;
    list!.addTask(() => new Promise<void>((resolve) => (start = resolve)));
    for (let n = 0; n < count; n += 1) {
      if (n % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
      list!.addTask(task, n);
    }
    await new Promise((resolve) => setImmediate(resolve));
    phase = 'running';
    start();
    await all.onIdle();
    over = true;
    if (ran !== count) throw new Error(`${ran} tasks ran, of ${count}`);
    return longest;
  },

  /** Bytes that a task takes until it starts: in a list, and bound by hand. */
  async bytesPerPendingTask(count: number) {
    const [list] = await (await Lists.open()).make(1);
    const task = tasks['sync']!;
    const measure = (add: (n: number) => void): number => {
      globalThis.gc!();
      const before = process.memoryUsage().heapUsed;
      for (let n = 0; n < count; n += 1) add(n);
      globalThis.gc!();
      return (process.memoryUsage().heapUsed - before) / count;
    };
    const bound: unknown[] = [];
    return {
      list: measure((n) => list!.addTask(task, n)),
      bound: measure((n) => bound.push(AsyncResource.bind(() => task(n)))),
    };
  },
});
