// Guarantee 10: what the engine has acknowledged runs, although the API, a worker or the server is killed, terminated or frozen.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { notTested, ownBackends } from '../support/backends.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';

if (notTested(ownBackends).length > 0) it.skip.each(notTested(ownBackends))('%s', () => undefined);

describe.each(ownBackends)('an API and its workers on $name', (backend) => {
  let server: Server;
  let queue: string;
  /** The lines that all workers logged. */
  let started: Recorder<string>;
  let ran: Recorder<string>;
  let failed: Recorder<string>;
  const programs: Program[] = [];

  beforeAll(async () => {
    server = await backend.start();
  }, 30_000);

  afterAll(() => server.remove());

  beforeEach(() => {
    queue = `chaos-${randomUUID()}`;
    started = new Recorder();
    ran = new Recorder();
    failed = new Recorder();
  });

  afterEach(async () => {
    await Promise.all(programs.splice(0).map((program) => program.end('SIGKILL')));
  });

  async function start(role: 'api' | 'worker', settings: object = {}): Promise<Program> {
    const program = new Program([role, backend.name, server.url, queue, JSON.stringify(settings)], (event) => {
      if (event.started) started.add(`${String(event.started)}, attempt ${String(event.attempt)}`);
      if (event.ran) ran.add(String(event.ran));
      if (event.failed) failed.add(String(event.why));
    });
    programs.push(program);
    await program.ready;
    return program;
  }

  it('the API is killed under load: no task of an answered request is lost, and each runs once', async () => {
    const api = await start('api');
    const load = new Load(await api.ready);
    await load.answers(200);
    await api.end('SIGKILL');
    await load.stop();
    await start('worker');
    await ran.containing(...load.answered);
    expect(ran.all).toHaveLength(new Set(ran.all).size);
  }, 60_000);

  it('a worker is killed in the middle of a task, and the next one, too: it is run again within the configured time', async () => {
    const api = await start('api');
    const workers = await Promise.all([start('worker', { hold: true }), start('worker', { hold: true })]);
    await post(`${await api.ready}/work/a`);
    for (const kills of [1, 2]) {
      await started.atLeast(kills);
      const victim = workers.find(({ events }) => events.some((event) => event.started))!;
      workers.splice(workers.indexOf(victim), 1, await start('worker', { hold: kills === 1 }));
      const killed = performance.now();
      await victim.end('SIGKILL');
      await started.atLeast(kills + 1);
      // The lock expires after 2 s, and is looked for every 0.5 s; the rest is a busy machine's.
      expect(performance.now() - killed).toBeLessThan(2_000 + 2 * 500 + 5_000);
    }
    // Nobody failed: it is the first attempt still.
    expect(new Set(started.all)).toEqual(new Set(['a, attempt 1']));
  }, 60_000);

  it('a task kills its worker each time: it fails alone, and the long tasks beside it run to their end', async () => {
    const api = await start('api');
    for (const id of ['long-a', 'long-b', 'deadly', 'long-c', 'long-d']) await post(`${await api.ready}/work/${id}`);
    let isOver = false;
    const over = Promise.all([failed.atLeast(1), ran.containing('long-a', 'long-b', 'long-c', 'long-d')]).then(() => (isOver = true));
    let deaths = 0;
    while (!isOver) {
      const worker = await start('worker', { maxStalledCount: 2 });
      await Promise.race([worker.ended, over]);
      if (!isOver) deaths += 1;
    }
    // Twice beside the others, and once alone.
    expect(deaths).toBe(3);
    expect(failed.all).toEqual([
      expect.stringMatching(/^its worker died 3 times while it ran, the last time without any other task beside it/),
    ]);
    expect(ran.all.toSorted()).toEqual(['long-a', 'long-b', 'long-c', 'long-d']);
  }, 90_000);

  it('a worker is terminated: after the shutdownTimeout the signal fires, and another worker has the task at once', async () => {
    const api = await start('api');
    const worker = await start('worker', { hold: true, shutdownTimeout: 100 });
    await post(`${await api.ready}/work/a`);
    await started.atLeast(1);
    await start('worker');
    const { code, signal } = await worker.end('SIGTERM');
    expect({ code, signal }).toEqual({ code: null, signal: 'SIGTERM' });
    await ran.containing('a');
    expect(started.all).toEqual(['a, attempt 1', 'a, attempt 1']);
    expect(ran.all).toEqual(['a']);
  }, 60_000);

  it('both are terminated under load: nothing is lost, and nothing runs twice', async () => {
    const [api, worker] = await Promise.all([start('api'), start('worker')]);
    const load = new Load(await api.ready);
    await load.answers(200);
    await Promise.all([api.end('SIGTERM'), worker.end('SIGTERM')]);
    await load.stop();
    await start('worker');
    await ran.containing(...load.answered);
    expect(ran.all).toHaveLength(new Set(ran.all).size);
    expect(started.all).toHaveLength(ran.all.length);
  }, 60_000);

  it('the server crashes and comes back under load: no task of an answered request is lost', async () => {
    const [api] = await Promise.all([start('api'), start('worker')]);
    const load = new Load(await api.ready);
    await load.answers(100);
    await server.crash();
    await server.start();
    await load.answers(100);
    await load.stop();
    await ran.containing(...load.answered);
  }, 60_000);

  it('the server hangs under load: clients hear of it, and no task of an answered request is lost', async () => {
    const [api] = await Promise.all([start('api', { flushTimeout: 200 }), start('worker')]);
    const load = new Load(await api.ready);
    await load.answers(100);
    server.freeze();
    await load.refusals.atLeast(1);
    server.thaw();
    await load.answers(100);
    await load.stop();
    expect(new Set(load.refusals.all)).toEqual(new Set([503]));
    await ran.containing(...load.answered);
  }, 60_000);
});

class Program {
  readonly events: Record<string, unknown>[] = [];
  /** Resolves with what the program calls itself: the API with its URL. */
  readonly ready: Promise<string>;
  readonly #process: ChildProcess;
  readonly #exit: Promise<{ code: number | null; signal: string | null }>;

  constructor(args: string[], listener: (event: Record<string, unknown>) => void) {
    const support = fileURLToPath(new URL('../support/', import.meta.url));
    const program = spawn(process.execPath, ['--import', `${support}typescript.js`, `${support}engine.app.ts`, ...args], {
      // Jest's own flags are not for the program.
      env: { ...process.env, NODE_OPTIONS: '' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = program;
    let errors = '';
    program.stderr.on('data', (data) => (errors += String(data)));
    this.#exit = once(program, 'close').then(([code, signal]) => ({ code, signal }));
    this.ready = new Promise((resolve, reject) => {
      createInterface(program.stdout).on('line', (line) => {
        const event: Record<string, unknown> = JSON.parse(line);
        this.events.push(event);
        if (event.ready) resolve(String(event.ready));
        listener(event);
      });
      void this.#exit.then(() => reject(new Error(`The program ended:\n${errors}`)));
    });
    this.ready.catch(() => undefined);
  }

  /** Resolves once the program has ended by itself. */
  get ended(): Promise<unknown> {
    return this.#exit;
  }

  async end(signal: NodeJS.Signals): Promise<{ code: number | null; signal: string | null }> {
    this.#process.kill(signal);
    return this.#exit;
  }
}

/** Clients that send one request after the other, and note which ones were answered. */
class Load {
  readonly answered: string[] = [];
  readonly refusals = new Recorder<number>();
  readonly #answers = new Recorder<string>();
  readonly #clients: Promise<unknown>;
  #stopping = false;

  constructor(url: string) {
    this.#clients = Promise.all(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'].map((name) => this.#client(url, name)));
  }

  /** Resolves after so many more answers. */
  async answers(count: number): Promise<void> {
    await this.#answers.atLeast(this.#answers.all.length + count);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#clients;
  }

  async #client(url: string, name: string): Promise<void> {
    for (let request = 1; !this.#stopping; request++) {
      const id = `${name}${request}`;
      const status = await post(`${url}/work/${id}`);
      if (status === undefined) return;
      if (status !== 202) {
        this.refusals.add(status);
        continue;
      }
      this.answered.push(id);
      this.#answers.add(id);
    }
  }
}

/** The status of the answer; undefined if the server is gone. */
async function post(url: string): Promise<number | undefined> {
  try {
    const response = await fetch(url, { method: 'POST' });
    await response.arrayBuffer();
    return response.status;
  } catch {
    return undefined;
  }
}
