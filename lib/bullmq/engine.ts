import { setImmediate, setTimeout } from 'node:timers/promises';
import { Queue } from 'bullmq';
import type { BackgroundTasksEngine, EngineEntry, EngineHost, EngineTaskOptions, EngineWorker } from '../engine/engine.js';
import type { TaskState } from '../task/background-task.js';
import { BackgroundTasksError } from '../task/errors.js';
import { connectionLog, producerConnection } from './connections.js';
import { type JobData, jobOf, stateOf } from './job.js';
import { type ResolvedBullmqOptions, checkPriority } from './options.js';
import { missingDriver, mendConnections, patchPgClients } from './workarounds.js';
import { BullmqWorker } from './worker.js';

/** Milliseconds that a connection is given to close by itself. */
const CLOSE_TIME = 500;

export class BullmqEngine implements BackgroundTasksEngine {
  readonly #options: ResolvedBullmqOptions;
  readonly #log: (error: Error) => void;
  #queue: Promise<Queue<JobData>> | undefined;
  /** The queue that was made last, also while it connects. */
  #latest: Queue<JobData> | undefined;
  /** Those of the applications that are open. */
  readonly #workers = new Map<EngineHost, BullmqWorker | undefined>();
  #closed = false;

  constructor(options: ResolvedBullmqOptions) {
    const { backend } = options;
    this.#options = { ...options, backend: backend && patchPgClients(backend) };
    this.#log = connectionLog(`Queue "${options.queue}"`);
  }

  check(task: string, { priority }: EngineTaskOptions): void {
    checkPriority(task, priority);
  }

  async enqueue(entries: readonly EngineEntry[], signal: AbortSignal): Promise<void> {
    const queue = await this.#connected();
    // Whoever waited for the connection may have given up.
    signal.throwIfAborted();
    const jobs = entries.map(jobOf);
    const [first] = jobs;
    // One by one is cheaper than a bulk of one.
    if (first && jobs.length === 1) await queue.add(first.name, first.data, first.opts);
    else await queue.addBulk(jobs);
  }

  async find(id: string): Promise<TaskState | undefined> {
    const queue = await this.#connected();
    const job = await queue.getJob(id);
    const state = await job?.getState();
    // It may have ended in between: a job that has ended does not change any more.
    const latest = state === 'completed' || state === 'failed' ? await queue.getJob(id) : job;
    return latest && stateOf(latest, state!);
  }

  async work(host: EngineHost): Promise<EngineWorker | undefined> {
    // Applications that have closed leave the engine to the next one: a test makes many from one module.
    if (this.#workers.size === 0) this.#queue = this.#latest = undefined;
    this.#closed = false;
    this.#workers.set(host, undefined);
    // For the first request not to wait. One that comes while the server is away says so; a driver that is missing is so at once.
    const connecting = this.#connected();
    connecting.catch(() => undefined);
    await Promise.race([connecting, setImmediate()]).catch((error: unknown) => {
      if (error instanceof BackgroundTasksError) throw error;
    });
    const { worker: settings } = this.#options;
    if (!settings) return undefined;
    const worker = new BullmqWorker({ ...this.#options, worker: settings }, host);
    this.#workers.set(host, worker);
    return worker;
  }

  async close(host: EngineHost): Promise<void> {
    const worker = this.#workers.get(host);
    this.#workers.delete(host);
    const queue = this.#workers.size === 0 ? this.#latest : undefined;
    this.#closed = this.#workers.size === 0;
    const closed = queue?.close().catch(this.#log);
    // A server that hangs does not say goodbye.
    await Promise.race([closed, setTimeout(CLOSE_TIME, undefined, { ref: false })]);
    await Promise.race([
      Promise.allSettled([queue?.disconnect(), worker?.disconnect()]),
      setTimeout(CLOSE_TIME, undefined, { ref: false }),
    ]);
  }

  /** The queue, connected. One that failed to connect at first would fail for ever: the next call makes another. */
  #connected(): Promise<Queue<JobData>> {
    return (this.#queue ??= this.#connect().catch((error: unknown) => {
      this.#queue = undefined;
      throw error;
    }));
  }

  async #connect(): Promise<Queue<JobData>> {
    if (this.#closed) throw new Error(`the connection to queue "${this.#options.queue}" is closed`);
    const { queue: name, backend } = this.#options;
    try {
      const queue = new Queue<JobData>(name, { connection: producerConnection(this.#options) }, backend as undefined);
      this.#latest = queue;
      mendConnections(queue);
      queue.on('error', (error) => {
        // An error of a connection that is being closed interests nobody.
        if (!this.#closed) this.#log(error);
      });
      await queue.waitUntilReady();
      return queue;
    } catch (error) {
      this.#latest?.close().catch(() => undefined);
      throw missingDriver(error);
    }
  }
}
