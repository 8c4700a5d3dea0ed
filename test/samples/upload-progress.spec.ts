// Sample 05: an upload whose progress a page shows.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Browser } from 'playwright-core';
import { AppModule } from '../../sample/05-upload-progress/app.module.js';
import { ContactStore } from '../../sample/05-upload-progress/contact-store.js';
import { type Platform, createApp, platforms } from '../support/app.js';
import { notTested, ownBackends } from '../support/backends.js';
import { executablePath, inChromium, launchChromium } from '../support/chromium.js';
import { type Gate, gate } from '../support/gate.js';
import type { Server } from '../support/servers.js';

/** A table that saves the next contact when the test says so. */
class GatedStore extends ContactStore {
  readonly saved: string[] = [];
  readonly gates = new Map<string, Gate>();

  gateOf(contact: string): Gate {
    const known = this.gates.get(contact) ?? gate();
    this.gates.set(contact, known);
    return known;
  }

  override async save(contact: string): Promise<void> {
    await this.gateOf(contact).opened;
    if (contact === 'broken') throw new Error('A line has no address');
    this.saved.push(contact);
  }
}

async function createSample(platform: Platform) {
  const store = new GatedStore();
  const served = await createApp(platform, AppModule, { build: (builder) => builder.overrideProvider(ContactStore).useValue(store) });
  return { ...served, runner: served.runner, store };
}

describe.each(platforms)('sample/05-upload-progress on %s', (platform) => {
  const upload = ({ http }: Awaited<ReturnType<typeof createSample>>, ...contacts: string[]) =>
    http.post('/imports').send({ contacts }).expect(202);

  /** The data of the events of a stream, as they come. */
  async function* eventsOf(url: string): AsyncGenerator<string> {
    const response = await fetch(url);
    let text = '';
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const complete = text.split('\n\n');
      text = complete.pop()!;
      for (const event of complete) yield* event.match(/(?<=^data: ).*$/m) ?? [];
    }
  }

  it('answers 202 before the work has begun, and tells how far it is', async () => {
    const sample = await createSample(platform);
    const { body, headers } = await upload(sample, 'ann@example.com', 'bob@example.com');
    expect(sample.store.saved).toEqual([]);
    expect(headers.location).toBe(`/imports/${body.id}`);
    await sample.http
      .get(headers.location!)
      .expect(200, new RegExp(`"id":"${body.id}","name":"import contacts","state":"(waiting|running)"`));

    const events: string[] = [];
    for await (const event of eventsOf(sample.url + body.progress)) {
      // The work goes on when the client has heard how far it is.
      if (event.includes('"done":0')) sample.store.gateOf('ann@example.com').open();
      if (event.includes('"done":1')) sample.store.gateOf('bob@example.com').open();
      // It may or may not have started at the first look.
      if (event !== '{"state":"waiting"}') events.push(event);
    }
    expect(events).toEqual([
      '{"done":0,"total":2,"state":"running"}',
      '{"done":1,"total":2,"state":"running"}',
      '{"done":2,"total":2,"state":"completed"}',
    ]);
    expect(sample.store.saved).toEqual(['ann@example.com', 'bob@example.com']);
  });

  it('tells that the work failed, also who asks when it is over, and logs why', async () => {
    const sample = await createSample(platform);
    const { body } = await upload(sample, 'broken');
    sample.store.gateOf('broken').open();
    await sample.runner.onIdle();
    expect(sample.logs.of('error')).toEqual(['Background task "import contacts" failed: A line has no address']);
    for await (const event of eventsOf(sample.url + body.progress))
      expect(event).toBe('{"done":0,"total":1,"state":"failed","failure":"A line has no address"}');
    expect.assertions(2);
  });

  it('cancels: the contact that is being saved is the last one', async () => {
    const sample = await createSample(platform);
    const { body } = await upload(sample, 'ann@example.com', 'bob@example.com');
    await sample.http.delete(`/imports/${body.id}`).expect(204);
    sample.store.gateOf('ann@example.com').open();
    sample.store.gateOf('bob@example.com').open();
    const events: string[] = [];
    for await (const event of eventsOf(sample.url + body.progress)) events.push(event);
    expect(events.at(-1)).toMatch(/"state":"cancelled"/);
    await setImmediate();
    expect(sample.store.saved).not.toContain('bob@example.com');
    await sample.http.delete(`/imports/${body.id}`).expect(404);
  });

  it('answers 404 for an import that is not there', async () => {
    const { http } = await createSample(platform);
    await http.get('/imports/none/progress').expect(404);
    await http.delete('/imports/none').expect(404);
  });
});

inChromium.each(platforms)(`the page of sample/05-upload-progress on %s, in ${executablePath}`, (platform) => {
  let browser: Browser;

  beforeAll(async () => {
    browser = await launchChromium();
  }, 30_000);

  afterAll(() => browser?.close());

  it('shows how far the import is', async () => {
    const { url, store } = await createSample(platform);
    const page = await browser.newPage();
    const problems: unknown[] = [];
    page.on('pageerror', (error) => problems.push(error));
    await page.goto(url);

    const contacts = ['ann@example.com', 'bob@example.com', 'eve@example.com'];
    await page
      .getByLabel('Contacts')
      .setInputFiles({ name: 'contacts.txt', mimeType: 'text/plain', buffer: Buffer.from(contacts.join('\n')) });
    await page.getByRole('button', { name: 'Import' }).click();
    await page.getByText('0 of 3 contacts, running').waitFor();

    store.gateOf('ann@example.com').open();
    store.gateOf('bob@example.com').open();
    await page.getByText('2 of 3 contacts, running').waitFor();
    const bar = page.getByRole('progressbar', { name: 'Progress' });
    expect(await bar.evaluate((element) => Number((element as unknown as { position: number }).position.toFixed(2)))).toBe(0.67);

    store.gateOf('eve@example.com').open();
    await page.getByText('3 of 3 contacts, completed').waitFor();
    if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
    expect(problems).toEqual([]);
    await page.close();
  }, 30_000);

  it('cancels the import', async () => {
    const { url, store, runner } = await createSample(platform);
    const page = await browser.newPage();
    await page.goto(url);
    await page
      .getByLabel('Contacts')
      .setInputFiles({ name: 'contacts.txt', mimeType: 'text/plain', buffer: Buffer.from('ann@example.com\nbob@example.com\n') });
    const cancel = page.getByRole('button', { name: 'Cancel' });
    expect(await cancel.isVisible()).toBe(false);
    await page.getByRole('button', { name: 'Import' }).click();
    store.gateOf('ann@example.com').open();
    await page.getByText('1 of 2 contacts, running').waitFor();
    await cancel.click();
    await page.getByText('1 of 2 contacts, cancelled').waitFor();
    expect(await cancel.isVisible()).toBe(false);
    await runner.onIdle();
    store.gateOf('bob@example.com').open();
    await page.close();
  }, 30_000);
});

inChromium.each(ownBackends)(`the page of sample/05-upload-progress with an API and a worker on $name, in ${executablePath}`, (backend) => {
  const [nest] = (createRequire(import.meta.url)('@nestjs/core/package.json') as { version: string }).version.split('.');
  const programs: ChildProcess[] = [];
  let server: Server;
  let browser: Browser;
  let url: string;

  function run(name: 'api' | 'worker'): ChildProcess {
    const { REDIS_URL: _, ...env } = process.env;
    const variable = backend.name === 'Redis' ? 'REDIS_URL' : 'DATABASE_URL';
    const program = spawn(process.execPath, ['--import', './test/support/typescript.js', `sample/05-upload-progress/${name}.ts`], {
      env: { ...env, NODE_OPTIONS: '', NO_COLOR: '1', PORT: '0', NEST: nest, [variable]: server.url },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    programs.push(program);
    return program;
  }

  beforeAll(async () => {
    [server, browser] = await Promise.all([backend.start(), launchChromium()]);
    const api = run('api');
    url = await new Promise<string>((resolve, reject) => {
      createInterface(api.stdout!).on('line', (line) => {
        const [, listening] = /^Listening on (.*)/.exec(line) ?? [];
        if (listening) resolve(listening);
      });
      api.once('exit', () => reject(new Error('The API ended')));
    });
  }, 60_000);

  afterAll(async () => {
    for (const program of programs) {
      const exit = once(program, 'exit');
      program.kill('SIGTERM');
      expect(await exit).toEqual([null, 'SIGTERM']);
    }
    await browser.close();
    await server.remove();
  }, 60_000);

  it('shows how far the task is in the worker, and how it failed', async () => {
    const page = await browser.newPage();
    await page.goto(url);
    const lines = ['ann@example.com', 'bob@example.com', 'no address', 'eve@example.com'];
    await page
      .getByLabel('Contacts')
      .setInputFiles({ name: 'contacts.txt', mimeType: 'text/plain', buffer: Buffer.from(lines.join('\n')) });
    const answered = page.waitForResponse((response) => response.request().method() === 'POST');
    await page.getByRole('button', { name: 'Import' }).click();
    const answer = await answered;
    await page.getByText('contacts, waiting').waitFor();
    // All that the page shows: a contact takes a fifth of a second.
    await page.evaluate(`
      globalThis.shown = [];
      new MutationObserver(() => shown.push(document.querySelector('[role=status]').textContent))
        .observe(document.querySelector('[role=status]'), { childList: true })`);
    run('worker').stdout!.resume();
    await page.getByText('2 of 4 contacts, failed: A line has no address').waitFor();
    expect(await page.evaluate('shown')).toContainEqual(expect.stringMatching(/^[0-2] of 4 contacts, running$/));
    // Where the 202 says the task is, the API tells its state, too.
    expect(answer.status()).toBe(202);
    const state = await fetch(new URL(answer.headers().location!, url));
    expect(await state.json()).toMatchObject({
      name: 'import contacts',
      state: 'failed',
      attempt: 1,
      progress: { done: 2, total: 4 },
      failure: 'A line has no address',
    });
    if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
    await page.close();
  }, 60_000);
});

if (notTested(ownBackends).length > 0) it.skip.each(notTested(ownBackends))('%s', () => undefined);
