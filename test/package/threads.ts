import assert from 'node:assert/strict';
import { join } from 'node:path';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Piscina } from 'piscina';

// The snippet for CommonJS in the guide to CPU work.

const pool = new Piscina<number, number>({ filename: join(__dirname, 'count-primes.js') });

async function main(): Promise<void> {
  const counts: number[] = [];
  const tasks = new BackgroundTasks();
  tasks.addTask(async (below: number) => void counts.push(await pool.run(below)), 1_000);
  await tasks.run();
  assert.deepEqual(counts, [168]);
  await pool.close();
}

void main();
