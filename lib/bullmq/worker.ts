import { setMaxListeners } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { DelayedError, type Job, UnrecoverableError } from 'bullmq';
import type { EngineHost, EngineWorker } from '../engine/engine.js';
import { listedNames, messageOf, stackOf, typeOf } from '../task/describe.js';
import { ConnectionLog, disconnectMade, workerConnection } from './connections.js';
import { type JobData, engineJobOf, failedJobOf } from './job.js';
import type { ResolvedBullmqOptions, WorkerSettings } from './options.js';
import { Isolation, QueueWorker, RETRY_DELAY_MS } from './workarounds.js';

/** Time that the server is given to answer a worker that closes, once no task runs, in ms: nothing tells whether it is away. */
const ANSWER_MS = 3_000;

/** Beyond any number of stalls that BullMQ counts. */
const NEVER = 2 ** 31 - 1;

/** Runs the tasks of a queue in this process. */
export class BullmqWorker implements EngineWorker {
  readonly #queue: string;
  readonly #settings: WorkerSettings;
  readonly #options: ResolvedBullmqOptions;
  readonly #host: EngineHost;
  readonly #log: ConnectionLog;
  readonly #closing = new AbortController();
  /** Fires when the tasks that run are to be given back. */
  readonly #deadline = new AbortController();
  readonly #started: Promise<void>;
  /** The runs, by the ids of their jobs. */
  readonly #running = new Map<string, Promise<void>>();
  #worker: QueueWorker | undefined;
  #connection: object | undefined;
  #problem: string | undefined = 'not connected yet';

  constructor(queue: string, settings: WorkerSettings, options: ResolvedBullmqOptions, host: EngineHost) {
    this.#queue = queue;
    this.#settings = settings;
    this.#options = options;
    this.#host = host;
    this.#log = new ConnectionLog(`The worker of queue "${queue}"`);
    this.#sayWhatRuns();
    // Each task that runs listens to it.
    setMaxListeners(0, this.#deadline.signal);
    this.#started = this.#start();
  }

  /** The reason why it has taken no task since the last one, if there is a problem. */
  get problem(): string | undefined {
    return this.#problem;
  }

  async close(deadline: AbortSignal): Promise<void> {
    this.#closing.abort();
    await this.#started;
    const giveBack = (): void => this.#deadline.abort(deadline.reason);
    if (deadline.aborted) giveBack();
    deadline.addEventListener('abort', giveBack);
    const silence = Promise.allSettled(this.#running.values()).then(() => setTimeout(ANSWER_MS, undefined, { ref: false }));
    await Promise.race([this.#worker?.close(), silence]);
  }

  /** Lets go of what did not close in time. */
  async disconnect(): Promise<void> {
    if (this.#connection) disconnectMade(this.#connection);
    await this.#worker?.abandon();
  }

  #sayWhatRuns(): void {
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

  /** A backend that failed to connect at first would fail for ever: another one is made until its server is there. */
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
        if (this.#connection) disconnectMade(this.#connection);
        await setTimeout(RETRY_DELAY_MS, undefined, { signal }).catch(() => undefined);
      }
    }
  }

  #make(): QueueWorker {
    this.#connection = workerConnection(this.#options, this.#queue);
    // BullMQ would fail the innocent as well.
    const settings = { ...this.#settings, maxStalledCount: NEVER };
    const options = { ...settings, connection: this.#connection, autorun: false, runRetryDelay: RETRY_DELAY_MS };
    const worker = new QueueWorker(this.#queue, (job, token) => this.#process(job, token), options, this.#options.backend as undefined);
    worker.onAnswer = () => this.#answered();
    worker.on('error', (error) => {
      // What was waiting for a task when its connection was closed says so.
      if (!this.#closing.signal.aborted || error.message !== 'Connection is closed.') this.#failed(error);
    });
    worker.on('failed', (job, error) => {
      // By BullMQ, because its worker died too often.
      if (job && !worker.failures.has(error)) this.#host.failed(failedJobOf(job), error);
    });
    return worker;
  }

  /**
   * Tasks that run beside one that kills the worker have not failed, and cannot be told from it. So a task that has been in progress at several
   * deaths runs alone. Only if its worker dies then, too, was it this task.
   */
  async #run(job: Job<JobData>, deadline: AbortSignal): Promise<void> {
    const { maxStalledCount } = this.#settings;
    const deaths = job.stalledCounter;
    if (deaths > maxStalledCount && job.data.startedAlone) {
      // For a retry by hand to begin anew.
      await noted(job, { startedAlone: undefined });
      throw new DeadlyTaskError(deaths);
    }
    const isSuspect = deaths >= Math.min(SUSPICIOUS_DEATHS, maxStalledCount + 1);
    const worker = this.#worker;
    // Further tasks would only wait for it here.
    if (isSuspect && worker) worker.concurrency = 1;
    const leave = await isolation.enter(isSuspect);
    try {
      if (this.#closing.signal.aborted) throw CLOSED;
      if (isSuspect && !job.data.startedAlone) await noted(job, { startedAlone: true });
      await this.#host.run(engineJobOf(job), deadline);
    } finally {
      leave();
      if (isSuspect && worker) worker.concurrency = this.#settings.concurrency;
    }
  }

  async #process(job: Job<JobData>, token: string | undefined): Promise<void> {
    const id = job.id!;
    const { signal: deadline } = this.#deadline;
    // A job is handed out again if its lock has run out. One that still runs here has a new lock then, and is not run twice at once.
    let run = this.#running.get(id);
    if (!run) {
      // One that was being fetched when the worker began to close.
      if (this.#closing.signal.aborted) return giveBack(job, token);
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
      if (deadline.aborted || thrown === CLOSED) return giveBack(job, token);
      if (thrown instanceof DeadlyTaskError) throw thrown;
      // No failure of the task, which has not run: it is left to its lock.
      if (thrown instanceof NotNotedError) throw thrown;
      const failure = failureOf(thrown);
      this.#worker?.failures.add(failure);
      throw failure;
    }
  }
}

/** The tasks of all workers of this process. */
const isolation = new Isolation();
/** The deaths of its workers after which a task is suspected of them. */
const SUSPICIOUS_DEATHS = 2;
/** Why a task that had waited for its turn did not get it. */
const CLOSED = new Error('the worker closes');

/** BullMQ tries no more. */
class DeadlyTaskError extends UnrecoverableError {
  override readonly name = 'UnrecoverableError';

  constructor(deaths: number) {
    super(
      `its worker died ${deaths === 1 ? 'once' : `${deaths} times`} while it ran, the last time with no other task beside it; look for what ends the process, such as ` +
        'memory that runs out, and run it again by hand',
    );
  }
}

/** The server could not be told of what is to be remembered of a job. */
class NotNotedError extends Error {}

async function noted(job: Job<JobData>, data: Partial<JobData>): Promise<void> {
  try {
    await job.updateData({ ...job.data, ...data });
  } catch (error) {
    throw new NotNotedError(messageOf(error));
  }
}

/** The pauses before a task is offered again whose method this process lacks: a quarter of the time that it has waited. */
const [FIRST_OFFER_MS, LAST_OFFER_MS] = [1_000, 30_000];
/** A worker that has the method comes within a day, or never. */
const LONGEST_UNKNOWN_MS = 24 * 3_600_000;

/** Gives back a job whose method this process lacks, without using an attempt. Returns false once it has waited for too long. */
async function waitForMethod(job: Job<JobData>, token: string | undefined): Promise<boolean> {
  const now = Date.now();
  const { unknownSince = now, ...data } = job.data;
  const waited = now - unknownSince;
  if (waited >= LONGEST_UNKNOWN_MS) {
    // A retry by hand has a day of its own.
    await job.updateData(data);
    return false;
  }
  if (job.data.unknownSince === undefined) await job.updateData({ ...data, unknownSince });
  const pause = Math.min(Math.max(waited / 4, FIRST_OFFER_MS), LAST_OFFER_MS);
  // Not in step with the looks of other workers: the same one would get it again and again.
  await job.moveToDelayed(now + Math.round(pause * (0.5 + Math.random() / 2)), token);
  return true;
}

/** Gives the job back, to run again at once, without using an attempt. */
async function giveBack(job: Job<JobData>, token: string | undefined): Promise<never> {
  await job.moveToDelayed(Date.now(), token);
  throw new DelayedError();
}

/** What BullMQ is told of a failure: an error that it can read, and none that it takes for an order, but for the one to try no more. */
function failureOf(thrown: unknown): Error {
  const type = typeOf(thrown);
  const message = messageOf(thrown);
  const text = message.startsWith('bullmq:') ? `${type}: ${message}` : message;
  const failure = type === 'UnrecoverableError' ? new UnrecoverableError(text) : new Error(text);
  failure.stack = stackOf(thrown) ?? text;
  return failure;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve());
  });
}
