// Sample 14: orders with a login, a tenant, an engine and a transaction.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Pool } from 'pg';
import { isNest12 } from '../support/app.js';
import { Recorder } from '../support/recorder.js';
import { type Server, startPostgres } from '../support/servers.js';

describe('sample/14-orders', () => {
  let postgres: Server;
  let pool: Pool;
  let sample: ChildProcess;
  let url: string;
  const mails = new Recorder<string>();
  const problems: string[] = [];

  beforeAll(async () => {
    postgres = await startPostgres();
    pool = new Pool({ connectionString: postgres.url });
    sample = spawn(process.execPath, ['--import', './test/support/typescript.js', 'sample/14-orders/main.ts'], {
      env: {
        ...process.env,
        NODE_OPTIONS: '',
        NO_COLOR: '1',
        PORT: '0',
        NEST: isNest12 ? '12' : '11',
        DATABASE_URL: postgres.url,
        CLOSING_INTERVAL: '500',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    url = await new Promise<string>((resolve, reject) => {
      createInterface(sample.stdout!).on('line', (line) => {
        const [, listening] = /^Listening on (.*)/.exec(line) ?? [];
        const [mail] = /Mail for .*/.exec(line) ?? [];
        if (listening) resolve(listening);
        if (mail) mails.add(mail);
        if (/(WARN|ERROR) .*\[BackgroundTasks\]/.test(line)) problems.push(line);
      });
      sample.once('exit', () => reject(new Error('The sample ended')));
    });
  }, 60_000);

  afterAll(async () => {
    const exit = once(sample, 'exit');
    sample.kill('SIGTERM');
    await exit;
    await pool.end();
    await postgres.remove();
  }, 30_000);

  async function request(method: string, path: string, body: object | undefined, token?: string): Promise<Response> {
    const headers = { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) };
    return fetch(`${url}${path}`, { method, headers, ...(body && { body: JSON.stringify(body) }) });
  }

  async function login(sub: string, tenant: string): Promise<string> {
    const response = await request('POST', '/login', { sub, tenant });
    return ((await response.json()) as { token: string }).token;
  }

  const rows = async (query: string): Promise<unknown[]> => (await pool.query(query)).rows.map((row) => Object.values(row).join(' '));

  /** Resolves once these have been seen: it is written after their answers. */
  async function visits(...users: string[]): Promise<void> {
    for (;;) {
      const seen = await rows('SELECT "user" FROM visits');
      if (users.every((user) => seen.includes(user))) return;
    }
  }

  it('lets nobody in without a token', async () => {
    expect((await request('PUT', '/orders/0', undefined)).status).toBe(401);
  });

  it('places an order, mails from the worker on behalf of the user and the tenant, and closes the order in a job, which mails, too', async () => {
    const [ada, grace] = await Promise.all([login('ada', 'acme'), login('grace', 'globex')]);
    const answers = await Promise.all([request('PUT', '/orders/1', undefined, ada), request('PUT', '/orders/2', undefined, grace)]);
    expect(answers.map(({ status }) => status)).toEqual([200, 200]);
    await mails.containing(
      'Mail for ada of acme: order 1 is closed, says order-mail',
      'Mail for grace of globex: order 2 is closed, says order-mail',
    );
    expect(await rows('SELECT id, tenant, state FROM orders ORDER BY id')).toEqual(['1 acme closed', '2 globex closed']);
    await visits('ada', 'grace');
    // One of the request, and one of the job, for each: the first may have found the order placed, or closed already.
    await mails.atLeast(4);
    expect(mails.all.filter((mail) => mail.startsWith('Mail for ada of acme: order 1 is ')).length).toBe(2);
    expect(mails.all.filter((mail) => mail.startsWith('Mail for grace of globex: order 2 is ')).length).toBe(2);
  }, 30_000);

  it('sends no mail of an order that is rolled back, and remembers the visit all the same', async () => {
    const alan = await login('alan', 'acme');
    expect((await request('PUT', '/orders/unpaid-3', undefined, alan)).status).toBe(500);
    expect((await request('PUT', '/orders/4', undefined, alan)).status).toBe(200);
    await mails.containing('Mail for alan of acme: order 4 is closed, says order-mail');
    expect(mails.all.filter((mail) => mail.includes('unpaid'))).toEqual([]);
    expect(await rows("SELECT id FROM orders WHERE id LIKE 'unpaid%'")).toEqual([]);
    await visits('alan');
    expect(problems).toEqual([]);
  }, 30_000);
});
