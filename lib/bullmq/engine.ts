import { setImmediate, setTimeout } from 'node:timers/promises';
import { type BulkJobOptions, type Job, Queue } from 'bullmq';
import type { BackgroundTasksEngine, EngineEntry, EngineHealth, EngineHost, EngineMethodOptions, EngineWorker } from '../engine/engine.js';
import type { TaskState } from '../task/background-task.js';
import { messageOf } from '../task/describe.js';
import { BackgroundTasksError } from '../task/errors.js';
import { ConnectionLog, disconnectClient, producerConnection } from './connections.js';
import { type JobData, jobOf, stateOf } from './job.js';
import { type ResolvedBullmqOptions, type WorkerSettings, checkPriority, checkQueue } from './options.js';
import { missingDriver, patchConnections, patchPgClients, redisClientOf } from './workarounds.js';
import { BullmqWorker } from './worker.js';

/** The ids of tasks, and those that BullMQ itself gives to jobs. */
const JOB_ID = /^(\d+|[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12})$/i;

/** Time for the server to answer a ping, in ms. */
const PING_MS = 3_000;

/**
 * Time for which a queue counts as unable to take tasks after it has refused some, in ms. A ping does not detect that Redis is full, or
 * that the user lacks a grant. After this time the queue counts as able again, as a process without requests would never notice.
 */
const REFUSAL_MS = 10_000;

/** Time for replicas to confirm tasks, in ms. */
const REPLICATION_MS = 500;

/** Adds tasks to a queue. */
class BullmqProducer {
  readonly #name: string;
  readonly #options: ResolvedBullmqOptions;
  readonly #log: ConnectionLog;
  #queue: Promise<Queue<JobData>> | undefined;
  /** The latest queue object, including one that is still connecting. */
  #latest: Queue<JobData> | undefined;
  #connection: object | undefined;
  /** The last error while connecting: a connection with a wrong password is retried for ever. */
  #lastError: unknown;
  #refusal: { readonly error: unknown; readonly until: number } | undefined;
  #closed = false;

  constructor(name: string, options: ResolvedBullmqOptions) {
    this.#name = name;
    this.#options = options;
    this.#log = new ConnectionLog(`Queue "${name}"`);
  }

  async enqueue(entries: readonly EngineEntry[], signal: AbortSignal): Promise<void> {
    try {
      const queue = await this.connected();
      // The flush may have been aborted while the connection was opening.
      signal.throwIfAborted();
      const jobs = entries.map((entry) => jobOf(entry, this.#options.keep));
      const [first] = jobs;
      // For a single job, `add` is cheaper than `addBulk`.
      const added = first && jobs.length === 1 ? [await queue.add(first.name, first.data, first.opts)] : await queue.addBulk(jobs);
      if (this.#options.replicas > 0) await this.#replicated(queue, storedIds(added, jobs));
      this.#refusal = undefined;
      this.#log.works();
    } catch (error) {
      if (!signal.aborted) this.#refusal = { error, until: performance.now() + REFUSAL_MS };
      throw error;
    }
  }

  /**
   * Resolves once enough replicas have these jobs. A failover since they were added may have lost them, so it also checks that the server
   * has them.
   *
   * @see https://redis.io/docs/latest/commands/wait/ WAIT covers only the writes of its own connection, hence the SET before it.
   */
  async #replicated(queue: Queue<JobData>, ids: readonly string[]): Promise<void> {
    const { replicas } = this.#options;
    const keys = ['replicated', ...ids].map((id) => queue.toKey(id));
    const client = await redisClientOf(queue);
    const replies = await client
      .pipeline()
      .set(keys[0]!, '', 'PX', REPLICATION_MS)
      .exists(...keys)
      .wait(replicas, REPLICATION_MS)
      .exec();
    const [, found, confirmed] = replies!.map(([error, reply]) => {
      if (error) throw error;
      return Number(reply);
    });
    if (found !== keys.length) throw new Error('the server has changed, and the new one lacks some of the tasks');
    if (confirmed! < replicas) throw new Error(`${confirmed} of ${replicas} replicas confirmed the tasks within ${REPLICATION_MS} ms`);
  }

  async find(id: string): Promise<TaskState | undefined> {
    // Other ids may be the names of BullMQ's own keys.
    if (!JOB_ID.test(id)) return undefined;
    return this.#inTime(() => this.#find(id));
  }

  async #find(id: string): Promise<TaskState | undefined> {
    const queue = await this.connected();
    const job = await queue.getJob(id);
    const state = await job?.getState();
    // The job may have ended between the two calls. Once it has ended, it does not change any more.
    const latest = state === 'completed' || state === 'failed' ? await queue.getJob(id) : job;
    return latest && stateOf(latest, state!);
  }

  /** The reason why tasks cannot be sent, if there is one. Never rejects. */
  async problem(): Promise<string | undefined> {
    try {
      return await this.#inTime(() => this.#ping());
    } catch (error) {
      return messageOf(error);
    }
  }

  /** Rejects if the server does not answer in time. A connection to a server that is down is retried for ever. */
  async #inTime<Result>(ask: () => Promise<Result>): Promise<Result> {
    const answered = new AbortController();
    const isSilent = setTimeout(PING_MS, undefined, { ref: false, signal: answered.signal }).then(() => {
      throw this.#lastError ?? new Error('the server does not answer');
    });
    try {
      return await Promise.race([ask(), isSilent]);
    } finally {
      answered.abort();
    }
  }

  /** Runs a script that reads a key of the queue: it shows whether the server is up, and lets this user run scripts on the queue. */
  async #ping(): Promise<string | undefined> {
    const queue = await this.connected();
    await queue.getRateLimitTtl();
    this.#log.works();
    return this.#refusal && this.#refusal.until > performance.now() ? messageOf(this.#refusal.error) : undefined;
  }

  /** The connected queue. A queue that failed to connect at first would fail for ever, so the next call creates another. */
  connected(): Promise<Queue<JobData>> {
    return (this.#queue ??= this.#connect().catch((error: unknown) => {
      this.#queue = undefined;
      throw error;
    }));
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#latest?.close().catch(this.#log.failed);
  }

  async disconnect(): Promise<void> {
    if (this.#connection) disconnectClient(this.#connection);
    await this.#latest?.disconnect();
  }

  async #connect(): Promise<Queue<JobData>> {
    if (this.#closed) throw new Error(`the connection to queue "${this.#name}" is closed`);
    const { backend } = this.#options;
    let queue: Queue<JobData> | undefined;
    try {
      this.#connection = producerConnection(this.#options, this.#name);
      queue = this.#latest = new Queue<JobData>(this.#name, { connection: this.#connection }, backend as undefined);
      patchConnections(queue);
      queue.on('error', (error) => {
        // Errors of a connection that is being closed do not matter.
        this.#lastError = error;
        if (!this.#closed) this.#log.failed(error);
      });
      await queue.waitUntilReady();
      this.#lastError = undefined;
      return queue;
    } catch (error) {
      queue?.close().catch(() => undefined);
      if (this.#connection) disconnectClient(this.#connection);
      throw missingDriver(error);
    }
  }
}

/**
 * The ids of the jobs that must exist: BullMQ stores no job for one that it deduplicates, and returns the id of the other. A job that replaces
 * others may itself be replaced.
 */
function storedIds(added: readonly Job[], jobs: readonly { readonly opts: BulkJobOptions }[]): string[] {
  return added.flatMap(({ id }, index) => {
    const { jobId, deduplication } = jobs[index]?.opts ?? {};
    return id !== undefined && id === jobId && !deduplication?.replace ? [id] : [];
  });
}

/** Time for a connection to close by itself, in ms. */
const CLOSE_MS = 500;

/**
 * Runs tasks on BullMQ queues. Each queue has its own connection for sending tasks, and its own worker, so that queues do not wait for each
 * other.
 */
export class BullmqEngine implements BackgroundTasksEngine {
  readonly #options: ResolvedBullmqOptions;
  /** The producers by the names of their queues. */
  readonly #producers = new Map<string, BullmqProducer>();
  /** The workers of each open application. */
  readonly #workers = new Map<EngineHost, readonly BullmqWorker[]>();

  constructor(options: ResolvedBullmqOptions) {
    const { backend } = options;
    this.#options = { ...options, backend: backend && patchPgClients(backend) };
  }

  check(task: string, { priority, queue }: EngineMethodOptions): void {
    checkPriority(task, priority);
    checkQueue(task, queue);
  }

  async enqueue(entries: readonly EngineEntry[], signal: AbortSignal): Promise<void> {
    const byQueue = new Map<string, EngineEntry[]>();
    for (const entry of entries) {
      const { queue = this.#options.queue } = entry;
      const others = byQueue.get(queue);
      if (others) others.push(entry);
      else byQueue.set(queue, [entry]);
    }
    await Promise.all([...byQueue].map(([queue, its]) => this.#producer(queue).enqueue(its, signal)));
  }

  async find(id: string): Promise<TaskState | undefined> {
    const found = await Promise.all([...this.#producers.values()].map((producer) => producer.find(id)));
    return found.find((state) => state !== undefined);
  }

  async work(host: EngineHost): Promise<EngineWorker | undefined> {
    // Once all applications have closed, the next one may use the engine again: tests create many from one module.
    for (const [queue, producer] of this.#producers) if (producer.isClosed) this.#producers.delete(queue);
    this.#workers.set(host, []);
    const { queue: own, queues } = this.#options;
    const named = host.tasks.map(({ queue = own }) => queue);
    const names = [...new Set([own, ...named, ...queues.keys()])];
    // Connects now, so that the first request does not wait. While the server is down, requests get the error; a missing driver is an error
    // at once.
    const connecting = Promise.all(names.map((name) => this.#producer(name).connected()));
    connecting.catch(() => undefined);
    await Promise.race([connecting, setImmediate()]).catch(async (error: unknown) => {
      if (!(error instanceof BackgroundTasksError)) return;
      // The application does not start, so nothing else closes its connections.
      await this.close(host);
      throw error;
    });
    // The application was closed meanwhile.
    if (!this.#workers.has(host)) return undefined;
    const workers = names.flatMap((name) => {
      const settings = this.#settingsOf(name);
      return settings ? [new BullmqWorker(name, settings, this.#options, host)] : [];
    });
    if (workers.length === 0) return undefined;
    this.#workers.set(host, workers);
    return { close: async (deadline) => void (await Promise.all(workers.map((worker) => worker.close(deadline)))) };
  }

  async health(host: EngineHost): Promise<EngineHealth> {
    const workers = this.#workers.get(host) ?? [];
    const sending = await Promise.all([...this.#producers.values()].map((producer) => producer.problem()));
    const working = workers.map((worker) => worker.problem);
    const [problem] = [...sending, ...working].filter((found) => found !== undefined);
    return {
      sends: sending.every((found) => found === undefined),
      ...(workers.length > 0 && { works: working.every((found) => found === undefined) }),
      ...(problem !== undefined && { problem }),
    };
  }

  async close(host: EngineHost): Promise<void> {
    const workers = this.#workers.get(host) ?? [];
    this.#workers.delete(host);
    const producers = this.#workers.size === 0 ? [...this.#producers.values()] : [];
    const closed = Promise.all(producers.map((producer) => producer.close()));
    // A server that hangs does not answer, so do not wait for longer.
    await Promise.race([closed, setTimeout(CLOSE_MS, undefined, { ref: false })]);
    await Promise.race([
      Promise.allSettled([...producers, ...workers].map((connected) => connected.disconnect())),
      setTimeout(CLOSE_MS, undefined, { ref: false }),
    ]);
  }

  #settingsOf(queue: string): false | WorkerSettings {
    const { queues, worker } = this.#options;
    return queues.get(queue) ?? worker;
  }

  #producer(queue: string): BullmqProducer {
    let producer = this.#producers.get(queue);
    if (!producer) this.#producers.set(queue, (producer = new BullmqProducer(queue, this.#options)));
    return producer;
  }
}
