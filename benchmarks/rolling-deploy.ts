import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { appendFileSync, closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { type Backend, ownBackends, queueOn } from '../test/support/backends.js';
import { type Server, startPostgres } from '../test/support/servers.js';
import { printTable, quick, save } from './support/compare.js';

// Rolling deploys under load. Each version has a method that the one before it lacks; its processes replace the old ones one by one, which
// are terminated and killed by turns. It fails if an acknowledged task is lost, or is done twice although no process was killed while it
// ran.

const TASKS = quick ? 600 : 10_000;
const DEPLOYS = quick ? 1 : 5;
/** Processes of the application, each with an API and a worker. */
const REPLICAS = 3;
const CLIENTS = 10;
/** The pause of a client between two requests, in ms: the load is steady, not all that the machine can do. */
const PAUSE_MS = 20;
/** Time after which the end of a task has been written down for certain, in ms. */
const WRITTEN_MS = 1_000;
/**
 * Without any progress for so long, the rest counts as lost, in ms. A task whose worker was killed is back after 15 s, an unknown one after
 * 30 s.
 */
const LOST_MS = 90_000;

type Signal = 'SIGTERM' | 'SIGKILL';

/** A process of the application. */
class Replica {
  private constructor(
    readonly url: string,
    readonly process: ChildProcess,
  ) {}

  static async start(version: number, backend: Backend, url: string, queue: string, file: number): Promise<Replica> {
    const args = [String(version), backend.name, url, queue];
    const process = fork(new URL('rolling-deploy-app.js', import.meta.url), args, { stdio: ['ignore', file, 'inherit', 'ipc'] });
    const [first] = await Promise.race([once(process, 'message'), once(process, 'exit')]);
    if (typeof first !== 'string') throw new Error(`Version ${version} did not start: exit code ${first}`);
    return new Replica(first, process);
  }

  async end(signal: Signal): Promise<void> {
    const exit = once(this.process, 'exit');
    this.process.kill(signal);
    await exit;
  }
}

/** Clients of the application. Each sends one request after the other to whichever process there is. */
class Load {
  /** The tasks that were acknowledged. */
  readonly acknowledged: string[] = [];
  /** Requests that were refused, or whose process ended. */
  refused = 0;
  #count = 0;
  #stopping = false;
  readonly #clients: Promise<void[]>;

  constructor(replicas: readonly Replica[]) {
    this.#clients = Promise.all(Array.from({ length: CLIENTS }, () => this.#client(replicas)));
  }

  async acknowledges(count: number): Promise<void> {
    while (this.acknowledged.length < count) await setTimeout(PAUSE_MS);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#clients;
  }

  async #client(replicas: readonly Replica[]): Promise<void> {
    while (!this.#stopping) {
      const id = String(++this.#count);
      const { url } = replicas[this.#count % replicas.length]!;
      const status = await post(`${url}/work/${id}`);
      if (status === 202) this.acknowledged.push(id);
      else this.refused += 1;
      await setTimeout(PAUSE_MS);
    }
  }
}

/** The status of the answer; undefined if the process has ended. */
async function post(url: string): Promise<number | undefined> {
  try {
    const response = await fetch(url, { method: 'POST' });
    await response.arrayBuffer();
    return response.status;
  } catch {
    return undefined;
  }
}

/** One start of a task. */
interface Run {
  readonly pid: string;
  readonly started: number;
  ran?: number;
}

/** The records of the processes. */
class Notes {
  readonly runs = new Map<string, Run[]>();
  /** Also those that the engine did not take before the end of a process, whose client got 503. */
  readonly failed = new Set<string>();
  readonly #killed = new Map<string, number>();

  constructor(file: string) {
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const [at, pid, event, id] = line.split(' ') as [string, string, string?, string?];
      if (event === 'started') this.runs.set(id!, [...(this.runs.get(id!) ?? []), { pid, started: Number(at) }]);
      if (event === 'ran') this.runs.get(id!)!.findLast((run) => run.pid === pid)!.ran = Number(at);
      if (event === 'failed') this.failed.add(id!);
      if (event === 'SIGKILL') this.#killed.set(pid, Number(at));
    }
  }

  get done(): number {
    return [...this.runs.values()].filter((runs) => runs.some(({ ran }) => ran !== undefined)).length;
  }

  isDone(id: string): boolean {
    return this.runs.get(id)?.some(({ ran }) => ran !== undefined) ?? false;
  }

  /** A run whose process was killed before the end of the task was written down for certain. */
  wasKilled({ pid, ran }: Run): boolean {
    const killed = this.#killed.get(pid);
    return killed !== undefined && (ran === undefined || killed - ran < WRITTEN_MS);
  }
}

async function trial(backend: Backend<Server>): Promise<Record<string, number>> {
  const server = backend.name === 'Postgres' ? await startPostgres({ durable: true }) : await backend.start();
  const directory = mkdtempSync(join(tmpdir(), 'rolling-deploy-'));
  const path = join(directory, 'notes');
  const file = openSync(path, 'a');
  const queue = `deploy-${randomUUID()}`;
  const start = (version: number): Promise<Replica> => Replica.start(version, backend, server.url, queue, file);
  const replicas: Replica[] = [];
  try {
    // The first alone: it makes the tables.
    replicas.push(await start(1));
    replicas.push(...(await Promise.all(Array.from({ length: REPLICAS - 1 }, () => start(1)))));
    const began = performance.now();
    const load = new Load(replicas);
    let ends = 0;
    for (let version = 2; version <= DEPLOYS + 1; version++) {
      for (let replica = 0; replica < REPLICAS; replica++) {
        replicas.push(await start(version));
        const old = replicas[0]!;
        const signal = ends % 2 === 0 ? 'SIGTERM' : 'SIGKILL';
        appendFileSync(path, `${Date.now()} ${old.process.pid} ${signal}\n`);
        // Clients find out by themselves that it has ended.
        await old.end(signal);
        replicas.shift();
        ends += 1;
        await load.acknowledges((TASKS * ends) / (DEPLOYS * REPLICAS));
      }
    }
    await load.stop();
    let notes = new Notes(path);
    const isOver = (): boolean => load.acknowledged.every((id) => notes.isDone(id));
    for (let progress = Date.now(); !isOver() && Date.now() - progress < LOST_MS; await setTimeout(500)) {
      const before = notes.done;
      notes = new Notes(path);
      if (notes.done > before) progress = Date.now();
    }
    const seconds = (performance.now() - began) / 1_000;
    await Promise.all(replicas.splice(0).map((replica) => replica.end('SIGTERM')));
    return { ...figuresOf(load, new Notes(path)), ...(await leftIn(backend, server.url, queue)), 'seconds, all in all': seconds };
  } finally {
    replicas.forEach(({ process }) => process.kill('SIGKILL'));
    closeSync(file);
    rmSync(directory, { recursive: true });
    await server.remove();
  }
}

function figuresOf(load: Load, notes: Notes): Record<string, number> {
  const runs = [...notes.runs.values()];
  const doneTwice = runs.filter((its) => its.filter(({ ran }) => ran !== undefined).length > 1);
  // All runs but the last one may have been cut off.
  const excused = doneTwice.filter((its) => its.slice(0, -1).every((run) => run.ran === undefined || notes.wasKilled(run)));
  return {
    'tasks acknowledged': load.acknowledged.length,
    'requests without an acknowledgement': load.refused,
    'runs that SIGKILL cut short': runs.flat().filter((run) => run.ran === undefined && notes.wasKilled(run)).length,
    'runs that were requeued at SIGTERM': runs.flat().filter((run) => run.ran === undefined && !notes.wasKilled(run)).length,
    'done again, as SIGKILL came before the end was written down': excused.length,
    [LOST]: load.acknowledged.filter((id) => !notes.isDone(id)).length,
    [TWICE]: doneTwice.length - excused.length,
    [FAILED]: load.acknowledged.filter((id) => notes.failed.has(id)).length,
  };
}

/** The parts of the queue that should be empty by now. */
async function leftIn(backend: Backend, url: string, name: string): Promise<Record<string, number>> {
  const queue = queueOn(backend, url, name);
  try {
    const counts = await queue.getJobCounts('waiting', 'prioritized', 'delayed', 'active', 'failed');
    return { [LEFT]: Object.values(counts).reduce((sum, count) => sum + count, 0) };
  } finally {
    await queue.close();
  }
}

const LOST = 'acknowledged tasks lost';
const TWICE = 'done twice without SIGKILL';
const FAILED = 'acknowledged tasks failed';
const LEFT = 'left in the queue';
/** All of these have to be 0. */
const FORBIDDEN = [LOST, TWICE, FAILED, LEFT];

const results: { name: string; figures: Record<string, number> }[] = [];
for (const backend of ownBackends) results.push({ name: backend.name, figures: await trial(backend) });

save('rolling-deploy', results);
const names = Object.keys(results[0]!.figures);
console.log(`\n### ${DEPLOYS} rolling deploys of ${REPLICAS} processes\n`);
printTable(
  ['', ...results.map(({ name }) => name)],
  names.map((name) => [name, ...results.map(({ figures }) => String(Math.round(figures[name]!)))]),
);
if (results.some(({ figures }) => FORBIDDEN.some((name) => figures[name]! > 0))) {
  console.error(`\nExpected all of these to be 0: ${FORBIDDEN.join(', ')}`);
  process.exitCode = 1;
}
