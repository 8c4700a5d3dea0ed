import { setMaxListeners } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { DelayedError, type Job, UnrecoverableError } from 'bullmq';
import type { EngineHost, EngineWorker } from '../engine/engine.js';
import { listedNames, messageOf, stackOf, storable, typeOf } from '../task/describe.js';
import { BackgroundTasksShutdownError } from '../task/errors.js';
import { ConnectionLog, disconnectClient, workerConnection } from './connections.js';
import { type JobData, dataOf, engineJobOf, failedJobOf } from './job.js';
import type { ResolvedBullmqOptions, WorkerSettings } from './options.js';
import { Isolation, QueueWorker, RETRY_DELAY_MS } from './workarounds.js';

/** Time for the server to answer a closing worker, once no task is running, in ms. Nothing else shows whether the server is down. */
const ANSWER_MS = 3_000;

/** A limit that the number of stalls never reaches, so that BullMQ itself fails no task for them. */
const NEVER = 2 ** 31 - 1;

/** Runs the tasks of a queue in this process. */
export class BullmqWorker implements EngineWorker {
  readonly #queue: string;
  readonly #settings: WorkerSettings;
  readonly #options: ResolvedBullmqOptions;
  readonly #host: EngineHost;
  readonly #log: ConnectionLog;
  readonly #closing = new AbortController();
  /** Fires when running tasks have to be requeued. */
  readonly #deadline = new AbortController();
  readonly #started: Promise<void>;
  /** The current runs, by the ids of their jobs. */
  readonly #running = new Map<string, Promise<void>>();
  /** The number of tasks that run, or wait to run, without any other task beside them. */
  #suspects = 0;
  #worker: QueueWorker | undefined;
  #connection: object | undefined;
  #problem: string | undefined = 'not connected yet';

  constructor(queue: string, settings: WorkerSettings, options: ResolvedBullmqOptions, host: EngineHost) {
    this.#queue = queue;
    this.#settings = settings;
    this.#options = options;
    this.#host = host;
    this.#log = new ConnectionLog(`The worker of queue "${queue}"`);
    this.#logTasks();
    // Every running task listens to it.
    setMaxListeners(0, this.#deadline.signal);
    this.#started = this.#start();
  }

  /** The current problem of the worker, if any. */
  get problem(): string | undefined {
    return this.#problem;
  }

  async close(deadline: AbortSignal): Promise<void> {
    this.#closing.abort();
    await this.#started;
    const requeueRunning = (): void => this.#deadline.abort(deadline.reason);
    if (deadline.aborted) requeueRunning();
    deadline.addEventListener('abort', requeueRunning);
    const silence = Promise.allSettled(this.#running.values()).then(() => setTimeout(ANSWER_MS, undefined, { ref: false }));
    await Promise.race([this.#worker?.close(), silence]);
  }

  /** Drops connections that did not close in time. */
  async disconnect(): Promise<void> {
    if (this.#connection) disconnectClient(this.#connection);
    await this.#worker?.abandon();
  }

  #logTasks(): void {
    const own = this.#options.queue;
    const names = new Set(this.#host.tasks.filter(({ queue = own }) => queue === this.#queue).map(({ name }) => name));
    const { concurrency } = this.#settings;
    this.#log.say(`runs ${names.size > 0 ? listedNames(names) : 'no task of this application'}, ${concurrency} at once`);
  }

  #failed(error: unknown): void {
    this.#problem = messageOf(error);
    this.#log.failed(error);
  }

  #answered(): void {
    this.#problem = undefined;
    this.#log.works();
  }

  /** Starts the worker. A backend that failed to connect at first would fail for ever, so a new one is created until the server is up. */
  async #start(): Promise<void> {
    const { signal } = this.#closing;
    const closing = aborted(signal);
    while (!signal.aborted) {
      let worker: QueueWorker | undefined;
      try {
        worker = this.#make();
        await Promise.race([worker.waitUntilReady(), closing]);
        this.#worker = worker;
        if (!signal.aborted) worker.run().catch((error: unknown) => this.#failed(error));
        return;
      } catch (error) {
        if (!signal.aborted) this.#failed(error);
        worker?.close(true).catch(this.#log.failed);
        if (this.#connection) disconnectClient(this.#connection);
        await setTimeout(RETRY_DELAY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  #make(): QueueWorker {
    this.#connection = workerConnection(this.#options, this.#queue);
    // BullMQ's own limit would also fail tasks that only ran beside the one that killed the worker.
    const settings = { ...this.#settings, maxStalledCount: NEVER };
    const options = { ...settings, connection: this.#connection, autorun: false, runRetryDelay: RETRY_DELAY_MS };
    const worker = new QueueWorker(this.#queue, (job, token) => this.#process(job, token), options, this.#options.backend as undefined);
    worker.onAnswer = () => this.#answered();
    // A worker without a free place asks for no task.
    for (const event of ['completed', 'failed', 'locksRenewed'] as const) worker.on(event, () => this.#answered());
    worker.on('error', (error) => {
      // When the worker closes, the call that waits for a task fails with this error.
      if (this.#closing.signal.aborted && error.message === 'Connection is closed.') return;
      this.#failed(error);
      // The server answers: only the lock of a task has expired.
      if (error.message.startsWith('could not renew lock')) this.#problem = undefined;
    });
    worker.on('failed', (job, error) => {
      // Other failures come from BullMQ: the task's worker died too often.
      if (job && !worker.failures.has(error)) this.#host.failed(failedJobOf(job), error);
    });
    return worker;
  }

  /**
   * A task that kills the worker cannot be distinguished from the innocent tasks beside it. So a task that was running at several deaths
   * runs alone. If its worker dies again, this task is the cause.
   */
  async #run(job: Job<JobData>, deadline: AbortSignal): Promise<void> {
    const { maxStalledCount } = this.#settings;
    // BullMQ counts all deaths in the life of a job, also those before a failure or a manual retry.
    const deaths = job.stalledCounter;
    const { aloneAfterDeaths = NEVER, unknownSince } = dataOf(job);
    if (deaths > maxStalledCount && deaths > aloneAfterDeaths) {
      // So that a manual retry starts afresh.
      await store(job, { aloneAfterDeaths: undefined });
      throw new DeadlyTaskError(deaths);
    }
    if (unknownSince !== undefined) await store(job, { unknownSince: undefined });
    const isSuspect = deaths >= Math.min(SUSPICIOUS_DEATHS, maxStalledCount + 1);
    const worker = this.#worker;
    // Otherwise the worker would fetch further tasks, which would only wait here.
    if (isSuspect && ++this.#suspects === 1 && worker) worker.concurrency = 1;
    const leave = await isolation.enter(isSuspect);
    try {
      if (this.#closing.signal.aborted) throw CLOSED;
      if (isSuspect && aloneAfterDeaths !== deaths) await store(job, { aloneAfterDeaths: deaths });
      await this.#host.run(engineJobOf(job), deadline);
    } finally {
      leave();
      if (isSuspect && --this.#suspects === 0 && worker) worker.concurrency = this.#settings.concurrency;
    }
  }

  async #process(job: Job<JobData>, token: string | undefined): Promise<void> {
    const id = job.id!;
    const { signal: deadline } = this.#deadline;
    // BullMQ hands a job out again if its lock has expired. If it is still running here, it keeps running, under the new lock.
    let run = this.#running.get(id);
    if (!run) {
      // The job was being fetched when the worker began to close.
      if (this.#closing.signal.aborted) return requeue(job, token);
      if (!this.#host.knows(engineJobOf(job)) && (await waitForMethod(job, token))) {
        this.#worker?.yieldToOthers();
        throw new DelayedError();
      }
      run = this.#run(job, deadline).finally(() => this.#running.delete(id));
      this.#running.set(id, run);
    }
    try {
      await run;
    } catch (thrown) {
      if (thrown === CLOSED || (deadline.aborted && thrown instanceof BackgroundTasksShutdownError)) return requeue(job, token);
      if (thrown instanceof DeadlyTaskError) throw thrown;
      // The task has not run, so this is not its failure. It keeps its lock.
      if (thrown instanceof NotStoredError) throw thrown;
      const failure = failureOf(thrown);
      this.#worker?.failures.add(failure);
      throw failure;
    }
  }
}

/** Shared by all workers of this process. */
const isolation = new Isolation();
/** The number of worker deaths after which a task is suspected to cause them. */
const SUSPICIOUS_DEATHS = 2;
/** The error for a task that was waiting for its turn when the worker closed. */
const CLOSED = new Error('the worker closes');

/** The error for a task that kills its workers. BullMQ does not retry it. */
class DeadlyTaskError extends UnrecoverableError {
  override readonly name = 'UnrecoverableError';

  constructor(deaths: number) {
    super(
      `its worker died ${deaths === 1 ? 'once' : `${deaths} times`} while it ran, the last time without any other task beside it; find out what ends the process, such as ` +
        'running out of memory, and retry it by hand',
    );
  }
}

/** The data of a job could not be stored. */
class NotStoredError extends Error {}

async function store(job: Job<JobData>, data: Partial<JobData>): Promise<void> {
  try {
    await job.updateData({ ...job.data, ...data });
  } catch (error) {
    throw new NotStoredError(messageOf(error));
  }
}

/**
 * The limits of the pause before a task whose method this process lacks is due again. The pause is a quarter of the time that it has
 * waited.
 */
const [MIN_PAUSE_MS, MAX_PAUSE_MS] = [1_000, 30_000];
/** The time that a task waits for a worker with its method: one starts within a day, or never. */
const MAX_UNKNOWN_MS = 24 * 3_600_000;

/** Requeues a job whose method this process lacks, without using an attempt. Returns false once it has waited for too long. */
async function waitForMethod(job: Job<JobData>, token: string | undefined): Promise<boolean> {
  // Not of this package, so no worker will ever know it.
  if (typeof job.data !== 'object' || job.data === null) return false;
  const now = Date.now();
  const { unknownSince = now, ...data } = job.data;
  const waited = now - unknownSince;
  if (waited >= MAX_UNKNOWN_MS) {
    // A manual retry gets a day of its own.
    await job.updateData(data);
    return false;
  }
  if (job.data.unknownSince === undefined) await job.updateData({ ...data, unknownSince });
  const pause = Math.min(Math.max(waited / 4, MIN_PAUSE_MS), MAX_PAUSE_MS);
  // Random, to be out of step with the polling of other workers: otherwise the same worker would get it again and again.
  await job.moveToDelayed(now + Math.round(pause * (0.5 + Math.random() / 2)), token);
  return true;
}

/** Requeues the job, to run again at once, without using an attempt. */
async function requeue(job: Job<JobData>, token: string | undefined): Promise<never> {
  await job.moveToDelayed(Date.now(), token);
  throw new DelayedError();
}

/**
 * The error that BullMQ gets for a failure. Only `UnrecoverableError` keeps its meaning; no other error is taken for one of BullMQ's
 * signals.
 */
function failureOf(thrown: unknown): Error {
  const type = typeOf(thrown);
  const message = messageOf(thrown);
  const text = message.startsWith('bullmq:') ? `${type}: ${message}` : message;
  const failure = type === 'UnrecoverableError' ? new UnrecoverableError(storable(text)) : new Error(storable(text));
  failure.stack = storable(stackOf(thrown) ?? text);
  return failure;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve());
  });
}
