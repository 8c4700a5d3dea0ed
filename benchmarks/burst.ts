// A burst of requests with tasks on one process: every task is accounted for, and the memory is back at its start.
//
//   node --expose-gc --import ./test/support/typescript.js benchmarks/burst.ts [requests, 50000 by default]

import { Agent, get } from 'node:http';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { Controller, Get, Module, Param } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  BackgroundTasks,
  BackgroundTasksModule,
  BackgroundTasksOverflowError,
  BackgroundTasksRunner,
  type RunOn,
} from 'nestjs-background-tasks';

const REQUESTS = Number(process.argv[2] ?? 50_000);
const CONNECTIONS = 500;
const MAX_PENDING = 1_200;
/** Megabytes by which the heap may differ after two collections of the same objects. */
const NOISE = 2;

const count = { added: 0, ran: 0, refused: 0 };

function add(tasks: BackgroundTasks, runOn: RunOn, func: () => unknown): void {
  count.added += 1;
  try {
    tasks.addTask({ runOn }, func);
  } catch (error) {
    if (error instanceof BackgroundTasksOverflowError) count.refused += 1;
    throw error;
  }
}

@Controller()
class BurstController {
  @Get(':n')
  get(@Param('n') n: string, @BackgroundTasks() tasks: BackgroundTasks) {
    add(tasks, 'success', () => void (count.ran += 1));
    add(tasks, 'success', async () => {
      await setTimeout(1);
      count.ran += 1;
    });
    add(tasks, 'always', () => {
      count.ran += 1;
      throw new Error('a failing task');
    });
    add(tasks, 'failure', () => void (count.ran += 1));
    if (Number(n) % 10 === 0) throw new Error('one request in ten fails');
  }
}

@Module({
  imports: [BackgroundTasksModule.forRoot({ concurrency: 100, maxPending: MAX_PENDING })],
  controllers: [BurstController],
})
class BurstModule {}

const app = await NestFactory.create(BurstModule, { logger: false });
// A server that closes an idle connection just as a client takes it up would fail the client.
app.getHttpServer().keepAliveTimeout = 0;
await app.listen(0, '127.0.0.1');
const url = await app.getUrl();
const runner = app.get(BackgroundTasksRunner);

async function burst(requests: number): Promise<Map<number, number>> {
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const statuses = new Map<number, number>();
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < requests) {
      const status = await statusOf(`${url}/${next++}`, agent);
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS }, client));
  agent.destroy();
  await runner.onIdle();
  return statuses;
}

function statusOf(path: string, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    get(path, { agent }, (response) => response.resume().once('end', () => resolve(response.statusCode!))).once('error', reject);
  });
}

async function megabytes(): Promise<number> {
  for (let turn = 0; turn < 10; turn++) {
    await setImmediate();
    gc!();
  }
  return process.memoryUsage().heapUsed / 2 ** 20;
}

// Code that the first requests load and compile stays in memory.
await burst(5_000);
const before = await megabytes();
const start = performance.now();
const statuses = await burst(REQUESTS);
const seconds = (performance.now() - start) / 1_000;
const after = await megabytes();
await app.close();

const { added, ran, refused } = count;
const discarded = runner.discardedCount;
const accounted = ran + discarded + refused;
console.log(`${REQUESTS} requests in ${seconds.toFixed(1)} s, answered ${JSON.stringify(Object.fromEntries(statuses))}`);
console.log(
  `${added} tasks added = ${ran} run + ${discarded} discarded + ${refused} refused${accounted === added ? '' : `: ${accounted}!`}`,
);
console.log(`heap ${before.toFixed(1)} MB before, ${after.toFixed(1)} MB after`);

const failed = accounted !== added || refused === 0 || runner.pendingCount > 0 || runner.activeCount > 0 || after - before > NOISE;
console.log(failed ? 'FAILED' : 'passed');
process.exitCode = failed ? 1 : 0;
