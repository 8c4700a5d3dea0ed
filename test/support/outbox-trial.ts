import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { Pool } from 'pg';
import type { Backend } from './backends.js';
import { type Server, startPostgres } from './servers.js';

/** The kills and outages of a trial while clients place orders, a quarter of which is rolled back. */
export interface TrialOptions {
  readonly backend: Backend<Server>;
  /** How a program is started: `node`, its options and the path of outbox.app. */
  readonly program: readonly string[];
  readonly clients: number;
  readonly apiKills: number;
  readonly workerKills: number;
  /** How often the database is stopped as by `pg_ctl stop -m immediate`. */
  readonly databaseStops: number;
  /** Time for which the engine's server is away, in ms. */
  readonly engineAway: number;
}

export interface TrialResult {
  readonly orders: number;
  readonly ordersWithoutMail: number;
  readonly mailsWithoutOrder: number;
  readonly doubledMails: number;
  /** Answers of orders while the engine's server was away, by their status. */
  readonly answersWhileAway: Readonly<Record<number, number>>;
}

/** Kills what can be killed, waits until all is done, and counts. */
export async function outboxTrial(options: TrialOptions): Promise<TrialResult> {
  const database = await startPostgres({ durable: true });
  const engineServer = await options.backend.start();
  const pool = new Pool({ connectionString: database.url, max: 2 });
  pool.on('error', () => undefined);
  const programs = new Set<Program>();
  let diedOfItself!: (error: Error) => void;
  const death = new Promise<never>((_, reject) => (diedOfItself = reject));
  death.catch(() => undefined);
  const queue = `outbox-${randomUUID()}`;
  const start = async (role: 'api' | 'worker'): Promise<Program> => {
    const args = [role, options.backend.name, engineServer.url, database.url, queue];
    const program = new Program(options.program, args, () => diedOfItself(new Error(`The ${role} ended by itself`)));
    programs.add(program);
    await program.url;
    return program;
  };
  const run = async (): Promise<TrialResult> => {
    await pool.query('CREATE TABLE orders (id text PRIMARY KEY); CREATE TABLE mails (id text)');
    let [api, worker] = await Promise.all([start('api'), start('worker')]);
    const clients = new Clients(options.clients, () => api.url);

    const kills = Math.max(options.apiKills, options.workerKills);
    for (let kill = 0; kill < kills; kill++) {
      await clients.answers(options.clients);
      if (kill < options.apiKills) {
        await api.end('SIGKILL');
        api = await start('api');
      }
      if (kill < options.workerKills) {
        await worker.end('SIGKILL');
        worker = await start('worker');
      }
    }
    for (let stop = 0; stop < options.databaseStops; stop++) {
      await clients.answers(options.clients);
      await database.crash();
      await database.start();
    }
    let answersWhileAway = {};
    if (options.engineAway > 0) {
      await clients.answers(options.clients);
      await engineServer.crash();
      const before = clients.answersByStatus();
      await setTimeout(options.engineAway);
      answersWhileAway = difference(clients.answersByStatus(), before);
      await engineServer.start();
    }
    await clients.answers(options.clients);
    await clients.stop();
    await untilDone(pool);
    return { ...(await counts(pool)), answersWhileAway };
  };
  try {
    return await Promise.race([run(), death]);
  } finally {
    await Promise.all([...programs].map((program) => program.end('SIGKILL')));
    await pool.end();
    await Promise.all([database.remove(), engineServer.remove()]);
  }
}

class Program {
  readonly url: Promise<string>;
  readonly #process: ChildProcess;
  readonly #exit: Promise<unknown>;
  #isEnding = false;

  constructor([command, ...args]: readonly string[], more: readonly string[], onDeath: () => void) {
    const child = spawn(command!, [...args, ...more], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NODE_OPTIONS: '' } });
    this.#process = child;
    this.#exit = once(child, 'exit');
    child.once('exit', () => {
      if (!this.#isEnding) onDeath();
    });
    this.url = new Promise((resolve, reject) => {
      createInterface(child.stdout).on('line', (line) => {
        if (line.startsWith('ready')) resolve(line.slice(6));
      });
      child.once('exit', () => reject(new Error('The program ended before it was ready')));
    });
    this.url.catch(() => undefined);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    this.#isEnding = true;
    this.#process.kill(signal);
    await this.#exit;
  }
}

/** Clients that place orders, one after the other each, whoever answers. */
class Clients {
  readonly #statuses = new Map<number, number>();
  readonly #loops: Promise<unknown>;
  #answered = 0;
  #onAnswer: () => void = () => undefined;
  #isStopping = false;

  constructor(count: number, url: () => Promise<string>) {
    this.#loops = Promise.all(Array.from({ length: count }, () => this.#loop(url)));
  }

  /** Resolves after so many more orders were answered with success. */
  async answers(count: number): Promise<void> {
    const wanted = this.#answered + count;
    while (this.#answered < wanted) await new Promise<void>((resolve) => (this.#onAnswer = resolve));
  }

  answersByStatus(): Readonly<Record<number, number>> {
    return Object.fromEntries(this.#statuses);
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await this.#loops;
  }

  async #loop(url: () => Promise<string>): Promise<void> {
    for (let order = 0; !this.#isStopping; order++) {
      const id = `${order % 4 === 3 ? 'unpaid' : 'paid'}-${randomUUID()}`;
      try {
        const response = await fetch(`${await url()}/orders/${id}`, { method: 'POST' });
        await response.arrayBuffer();
        this.#statuses.set(response.status, (this.#statuses.get(response.status) ?? 0) + 1);
        if (!response.ok) continue;
        this.#answered += 1;
        this.#onAnswer();
      } catch {
        // Its server was killed: it is not known whether the order is placed.
        await setTimeout(10);
      }
    }
  }
}

function difference(after: Readonly<Record<number, number>>, before: Readonly<Record<number, number>>): Record<number, number> {
  const more = Object.entries(after).map(([status, count]) => [status, count - (before[Number(status)] ?? 0)] as const);
  return Object.fromEntries(more.filter(([, count]) => count > 0));
}

/** Time without another mail, in ms, after which no more is expected. */
const QUIET_MS = 20_000;

/** Resolves when the outbox is empty and each order has its mail, or nothing happens any more. */
async function untilDone(pool: Pool): Promise<void> {
  let last = '';
  for (let since = performance.now(); performance.now() - since < QUIET_MS; await setTimeout(100)) {
    const { ordersWithoutMail } = await counts(pool);
    const { rows } = await pool.query<{ left: string; mails: string }>(
      'SELECT (SELECT count(*) FROM background_tasks_outbox) AS left, (SELECT count(*) FROM mails) AS mails',
    );
    if (ordersWithoutMail === 0 && rows[0]!.left === '0') return;
    const state = `${rows[0]!.left} ${rows[0]!.mails}`;
    if (state !== last) since = performance.now();
    last = state;
  }
}

async function counts(pool: Pool): Promise<Omit<TrialResult, 'answersWhileAway'>> {
  const { rows } = await pool.query<Record<string, string>>(`SELECT
    (SELECT count(*) FROM orders) AS orders,
    (SELECT count(*) FROM orders WHERE id NOT IN (SELECT id FROM mails)) AS "ordersWithoutMail",
    (SELECT count(*) FROM mails WHERE id NOT IN (SELECT id FROM orders)) AS "mailsWithoutOrder",
    (SELECT count(*) FROM (SELECT id FROM mails GROUP BY id HAVING count(*) > 1) AS twice) AS "doubledMails"`);
  return Object.fromEntries(Object.entries(rows[0]!).map(([name, count]) => [name, Number(count)])) as Omit<
    TrialResult,
    'answersWhileAway'
  >;
}
