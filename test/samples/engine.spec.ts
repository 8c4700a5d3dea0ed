// Sample 13: an API and a worker in processes of their own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Browser } from 'playwright-core';
import { notTested, ownBackends } from '../support/backends.js';
import { executablePath, inChromium, launchChromium } from '../support/chromium.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';

const [nest] = (createRequire(import.meta.url)('@nestjs/core/package.json') as { version: string }).version.split('.');

if (notTested(ownBackends).length > 0) it.skip.each(notTested(ownBackends))('%s', () => undefined);

describe.each(ownBackends)('sample/13-engine on $name', (backend) => {
  let server: Server | undefined;
  let sample: ChildProcess;
  let url: string;
  const mails = new Recorder<string>();
  const failures = new Recorder<string>();

  beforeAll(async () => {
    const { REDIS_URL: _, ...env } = process.env;
    // Without a Redis, the sample starts a Postgres of its own.
    server = backend.name === 'Redis' ? await backend.start() : undefined;
    sample = spawn(process.execPath, ['--import', './test/support/typescript.js', 'sample/13-engine/main.ts'], {
      env: { ...env, NODE_OPTIONS: '', NO_COLOR: '1', PORT: '0', NEST: nest, ...(server && { REDIS_URL: server.url }) },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    createInterface(sample.stderr!).on('line', (line) => {
      if (line.includes('ERROR')) failures.add(line);
    });
    url = await new Promise<string>((resolve, reject) => {
      createInterface(sample.stdout!).on('line', (line) => {
        const [, listening] = /^Listening on (.*)/.exec(line) ?? [];
        const [mail] = /Sent a mail to .*/.exec(line) ?? [];
        if (listening) resolve(listening);
        if (mail) mails.add(mail);
      });
      sample.once('exit', () => reject(new Error('The sample ended')));
    });
  }, 60_000);

  afterAll(async () => {
    const exit = once(sample, 'exit');
    sample.kill('SIGTERM');
    expect(await exit).toEqual([0, null]);
    await server?.remove();
  }, 30_000);

  it('answers from one process, and sends the mail from another', async () => {
    const response = await fetch(`${url}/users/ada@example.com`, { method: 'POST' });
    expect([response.status, await response.json()]).toEqual([201, { message: 'Welcome! A mail is on its way.' }]);
    await mails.containing('Sent a mail to ada@example.com, at attempt 1');
  }, 30_000);

  it('is alive, and ready once it can send tasks', async () => {
    let ready = await fetch(`${url}/health/ready`);
    while (ready.status !== 200) ready = await fetch(`${url}/health/ready`);
    expect(await ready.json()).toMatchObject({ status: 'ok', info: { backgroundTasks: { status: 'up', sends: true } } });
    const live = await fetch(`${url}/health/live`);
    expect([live.status, await live.json()]).toMatchObject([200, { status: 'ok' }]);
  }, 30_000);

  inChromium(`its board, in ${executablePath}`, () => {
    let browser: Browser;

    beforeAll(async () => {
      browser = await launchChromium();
    }, 30_000);

    afterAll(() => browser?.close());

    it('shows the queue and a finished task', async () => {
      await fetch(`${url}/users/grace@example.com`, { method: 'POST' });
      await mails.containing('Sent a mail to grace@example.com, at attempt 1');
      const page = await browser.newPage();
      const problems: unknown[] = [];
      page.on('pageerror', (error) => problems.push(error));
      await page.goto(`${url}/queues/queue/mail?status=completed`);
      await page.getByRole('link', { name: 'mail' }).first().waitFor();
      await page.getByText('welcome-mail').first().waitFor();
      await page.getByText('grace@example.com').first().waitFor();
      if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
      expect(problems).toEqual([]);
    }, 60_000);

    it('shows a failed task, and runs it again', async () => {
      // Its time is over before the mail server has answered.
      const data = { provider: 'MailTasks', args: '["eve@example.com"]', timeout: 1 };
      const added = await fetch(`${url}/queues/api/queues/mail/add`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ name: 'welcome-mail', data, options: { jobId: 'eve', attempts: 1 } }),
      });
      expect(added.status).toBe(200);
      await failures.atLeast(1);
      const page = await browser.newPage();
      await page.goto(`${url}/queues/queue/mail?status=failed`);
      await page.getByText('did not end within its timeout').first().waitFor();
      await page.getByRole('button', { name: 'Retry all' }).click();
      await page.getByRole('button', { name: 'Confirm' }).click();
      await failures.atLeast(2);
      expect(failures.all).toEqual([
        expect.stringContaining('(job eve)'),
        expect.stringContaining('(attempt 2, 1 more than its option `attempts` allows, job eve)'),
      ]);
      await page.close();
    }, 60_000);
  });
});
