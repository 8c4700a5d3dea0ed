import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { NestFactory } from '@nestjs/core';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import { AppModule } from './app.module.js';

// Starts the sample on a free port, sends it requests, and shows when each was answered and when its tasks ended.

setTimeout(() => {
  console.error('Nothing happens any more');
  process.exit(1);
}, 30_000).unref();

const directory = await mkdtemp(join(tmpdir(), 'quick-start-'));
process.chdir(directory);
const app = await NestFactory.create(AppModule, { logger: ['warn', 'error'] });
const runner = app.get(BackgroundTasksRunner);

try {
  app.enableShutdownHooks();
  await app.listen(0, '127.0.0.1');
  const url = await app.getUrl();

  const notified = await post(`${url}/send-notification/foo@example.com`);
  assert.deepEqual(notified.body, { message: 'Message sent' });
  assert.equal(notified.log, 'message to foo@example.com\n');

  const found = await post(`${url}/send-notification/foo@example.com?q=some-query`);
  assert.deepEqual(found.body, { message: 'Message sent' });
  assert.equal(found.log, 'found query: some-query\nmessage to foo@example.com\n');

  const slow = await post(`${url}/send-newsletter/foo@example.com`);
  assert.deepEqual(slow.body, { message: 'Newsletter on its way' });
  assert.equal(slow.log, 'newsletter to foo@example.com\n');
  assert.equal(slow.tasksAtResponse, 1, 'The response came only after the task');
} finally {
  await app.close();
  process.chdir(tmpdir());
  await rm(directory, { recursive: true });
}

async function post(url: string): Promise<{ body: unknown; log: string; tasksAtResponse: number }> {
  await rm('log.txt', { force: true });
  const start = performance.now();
  const after = (): string => `after ${Math.round(performance.now() - start)} ms`;

  console.log(`POST ${url}`);
  const response = await fetch(url, { method: 'POST' });
  const tasksAtResponse = runner.activeCount + runner.pendingCount;
  const body: unknown = await response.json();
  console.log(`  response came   ${after()}: ${response.status} ${JSON.stringify(body)}`);
  await runner.onIdle();
  console.log(`  tasks finished  ${after()}`);
  const log = await readFile('log.txt', 'utf8');
  console.log(`  log.txt         ${log.trimEnd().replaceAll('\n', `\n${' '.repeat(18)}`)}\n`);
  return { body, log, tasksAtResponse };
}
