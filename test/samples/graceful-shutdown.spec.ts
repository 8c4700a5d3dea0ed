// Sample 07: SIGTERM, with payments in tasks and a database.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { gate } from '../support/gate.js';

const [nest] = (createRequire(import.meta.url)('@nestjs/core/package.json') as { version: string }).version.split('.');

/** The sample in a process of its own. */
class Sample {
  readonly lines: string[] = [];
  readonly exit: Promise<unknown>;
  readonly #process: ChildProcess;
  readonly #waiting: { text: string; found: (line: string) => void }[] = [];

  constructor(env: Record<string, string>) {
    this.#process = spawn(process.execPath, ['--import', './test/support/typescript.js', 'sample/07-graceful-shutdown/main.ts'], {
      env: { ...process.env, NODE_OPTIONS: '', PORT: '0', NEST: nest, ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    createInterface({ input: this.#process.stdout! }).on('line', (line) => {
      this.lines.push(line);
      for (const { text, found } of this.#waiting) if (line.includes(text)) found(line);
    });
    this.exit = once(this.#process, 'close').then(([code, signal]) => signal ?? code);
  }

  /** Resolves with the line that holds the text, as soon as the sample prints it. */
  async says(text: string): Promise<string> {
    const said = new Promise<string>((found) => this.#waiting.push({ text, found }));
    const gone = this.exit.then(() => Promise.reject(new Error(`The sample ended without saying "${text}"`)));
    return this.lines.find((line) => line.includes(text)) ?? Promise.race([said, gone]);
  }

  async url(): Promise<string> {
    return (await this.says('Listening on ')).replace(/^.*Listening on /, '');
  }

  kill(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }
}

describe('sample/07-graceful-shutdown', () => {
  let directory: string;
  let sample: Sample | undefined;
  const charged = gate();
  const letPay = gate();
  const payments = createServer((_request, response) => {
    charged.open();
    void letPay.opened.then(() => response.end('paid'));
  });

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'graceful-shutdown-'));
    await once(payments.listen(0, '127.0.0.1'), 'listening');
  });

  afterEach(async () => {
    sample?.kill('SIGKILL');
    payments.close();
    await rm(directory, { recursive: true });
  });

  it('finishes on SIGTERM what it has promised, and then closes the database', async () => {
    const { port } = payments.address() as AddressInfo;
    const env = { DATABASE: join(directory, 'orders.sqlite'), PAYMENTS_URL: `http://127.0.0.1:${port}/charge/` };
    sample = new Sample(env);
    const url = await sample.url();
    for (const order of ['1', '2']) expect((await fetch(`${url}/orders/${order}`, { method: 'POST' })).status).toBe(202);
    await charged.opened;

    sample.kill('SIGTERM');
    await sample.says('Shutting down, with 2 tasks to finish');
    letPay.open();
    expect(await sample.exit).toBe('SIGTERM');
    expect(sample.lines.at(-1)).toBe('The database is closed');

    sample = new Sample(env);
    expect(await (await fetch(`${await sample.url()}/orders`)).json()).toEqual([
      { id: '1', paid: 1 },
      { id: '2', paid: 1 },
    ]);
    sample.kill('SIGTERM');
    await sample.exit;
  }, 60_000);

  it('ends its event stream and its long poll as the shutdown begins', async () => {
    sample = new Sample({ DATABASE: join(directory, 'orders.sqlite') });
    const url = await sample.url();
    const stream = await fetch(`${url}/news/stream`);
    const poll = fetch(`${url}/news/next`);
    const polled = fetch(`${url}/news/next`);
    await fetch(`${url}/orders`);
    sample.kill('SIGTERM');
    expect(await (await poll).json()).toEqual({});
    expect(await (await polled).json()).toEqual({});
    await stream.text();
    expect(await sample.exit).toBe('SIGTERM');
  }, 60_000);
});
