// Mixed requests for a while: afterwards nothing is pending, and neither heap nor listeners have grown.
//
//   node --expose-gc --import ./test/support/typescript.js benchmarks/soak.ts [seconds, 120 by default]

import type { EventEmitter } from 'node:events';
import { Agent, get } from 'node:http';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { type CanActivate, Controller, Get, Injectable, Module, StreamableFile, UseGuards } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner, currentTask } from 'nestjs-background-tasks';

const SECONDS = Number(process.argv[2] ?? 120);
const CLIENTS = 50;
/** How often the heap is measured in the second half. */
const SAMPLES = 20;
/** Megabytes by which the heap may differ from one half of the samples to the other. */
const NOISE = 0.5;

const count = { added: 0, ran: 0 };

function add(tasks: BackgroundTasks, func: () => unknown): void {
  count.added += 1;
  tasks.addTask(() => {
    count.ran += 1;
    return func();
  });
}

@Injectable()
class DenyingGuard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}

  canActivate() {
    add(this.tasks, () => setTimeout(1));
    return false;
  }
}

@Controller()
class SoakController {
  @Get('works')
  works(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, () => {});
    add(tasks, () => setTimeout(1));
    add(tasks, () => add(tasks, () => {}));
    return { some: 'value' };
  }

  @Get('nothing')
  nothing() {
    return 'no task';
  }

  @Get('fails')
  fails(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, () => {
      throw new Error('task');
    });
    add(tasks, () => Promise.reject(new Error('task')));
    throw new Error('handler');
  }

  @Get('task-fails')
  taskFails(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, () => Promise.reject(new Error('task')));
    add(tasks, () => {});
  }

  @Get('denied')
  @UseGuards(DenyingGuard)
  denied() {}

  @Get('stream')
  stream(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, () => setTimeout(1));
    return new StreamableFile(Readable.from([Buffer.alloc(10_000), Buffer.alloc(10_000)]));
  }

  /** Its clients leave. */
  @Get('left')
  async left(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, () => {});
    await setTimeout(20);
    add(tasks, () => {});
  }

  @Get('obeys-its-timeout')
  obeys(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, () => setTimeout(60_000, undefined, { signal: currentTask()!.signal }));
  }

  @Get('ignores-its-timeout')
  ignores(@BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, () => new Promise(() => {}));
    add(tasks, () => setTimeout(15));
  }
}

const PATHS = ['works', 'nothing', 'fails', 'task-fails', 'denied', 'stream', 'left', 'obeys-its-timeout', 'ignores-its-timeout'];

@Module({ imports: [BackgroundTasksModule.forRoot({ timeout: 10, onError: () => {} })], controllers: [SoakController] })
class SoakModule {}

const warnings: Error[] = [];
process.on('warning', (warning) => warnings.push(warning));

const app = await NestFactory.create(SoakModule, new FastifyAdapter(), { logger: false });
// A server that closes an idle connection just as a client takes it up would fail the client.
app.getHttpServer().keepAliveTimeout = 0;
await app.listen(0, '127.0.0.1');
const url = await app.getUrl();
const runner = app.get(BackgroundTasksRunner);
const sockets = new Set<Socket>();
app.getHttpServer().on('connection', (socket: Socket) => sockets.add(socket.once('close', () => sockets.delete(socket))));

const agent = new Agent({ keepAlive: true, maxSockets: CLIENTS });
let requests = 0;

/** Requests, one after the other, until the time is over. */
async function client(until: number): Promise<void> {
  while (performance.now() < until) {
    const path = PATHS[requests++ % PATHS.length]!;
    await (path === 'left' ? leave(`${url}/${path}`) : answered(`${url}/${path}`));
  }
}

function answered(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    get(path, { agent }, (response) => response.resume().once('end', resolve)).once('error', reject);
  });
}

async function leave(path: string): Promise<void> {
  const request = get(path, { agent: false }).on('error', () => {});
  await setTimeout(10);
  request.destroy();
}

/** Runs all clients for so many seconds, and until their tasks are through. */
async function load(seconds: number): Promise<void> {
  const until = performance.now() + seconds * 1_000;
  await Promise.all(Array.from({ length: CLIENTS }, () => client(until)));
  // Handlers whose client has left, and functions that stop at their signal, are at work a little longer.
  do await setTimeout(50);
  while (runner.pendingCount + runner.activeCount > 0);
}

async function heap(): Promise<number> {
  for (let turn = 0; turn < 5; turn++) {
    await setImmediate();
    gc!();
  }
  return process.memoryUsage().heapUsed / 2 ** 20;
}

/** The most listeners of one emitter that lives longer than a request. */
function listeners(): number {
  const emitters: EventEmitter[] = [process, app.getHttpServer(), ...sockets];
  return Math.max(...emitters.map((emitter) => emitter.eventNames().reduce((sum, name) => sum + emitter.listenerCount(name), 0)));
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

await load(SECONDS / 2);
const listenersHalfway = listeners();
const samples: number[] = [];
for (let sample = 0; sample < SAMPLES; sample++) {
  await load(SECONDS / 2 / SAMPLES);
  samples.push(await heap());
}
const listenersAtTheEnd = listeners();
const { pendingCount, activeCount, discardedCount } = runner;
agent.destroy();
await app.close();

const growth = mean(samples.slice(SAMPLES / 2)) - mean(samples.slice(0, SAMPLES / 2));
const problems = [
  pendingCount + activeCount > 0 && `${pendingCount} tasks are pending and ${activeCount} active`,
  count.ran + discardedCount !== count.added && `${count.added} tasks were added, ${count.ran} run and ${discardedCount} discarded`,
  growth > NOISE && `the heap grew by ${growth.toFixed(2)} MB over the second half`,
  listenersAtTheEnd > listenersHalfway && `listeners grew from ${listenersHalfway} to ${listenersAtTheEnd}`,
  ...warnings.map((warning) => `Node warned: ${warning.message}`),
].filter(Boolean);

console.log(`${requests} requests, ${count.added} tasks: ${count.ran} run, ${discardedCount} discarded`);
console.log(`heap in MB, second half: ${samples.map((sample) => sample.toFixed(1)).join(' ')}`);
console.log(problems.length > 0 ? `FAILED: ${problems.join('; ')}` : 'passed');
process.exitCode = problems.length > 0 ? 1 : 0;
