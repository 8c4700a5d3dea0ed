// Sample 13: an API and a worker in processes of their own.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Browser } from 'playwright-core';
import { executablePath, inChromium, launchChromium } from '../support/chromium.js';
import { Recorder } from '../support/recorder.js';

const [nest] = (createRequire(import.meta.url)('@nestjs/core/package.json') as { version: string }).version.split('.');

describe('sample/13-engine', () => {
  let sample: ChildProcess;
  let url: string;
  const mails = new Recorder<string>();

  beforeAll(async () => {
    const { REDIS_URL: _, ...env } = process.env;
    sample = spawn(process.execPath, ['--import', './test/support/typescript.js', 'sample/13-engine/main.ts'], {
      env: { ...env, NODE_OPTIONS: '', NO_COLOR: '1', PORT: '0', NEST: nest },
      stdio: ['ignore', 'pipe', 'inherit'],
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
  });
});
