import { setMaxListeners } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { DelayedError, type Job, UnrecoverableError } from 'bullmq';
import type { EngineHost, EngineWorker } from '../engine/engine.js';
import { listedNames, messageOf, stackOf, typeOf } from '../task/describe.js';
import { ConnectionLog, disconnectMade, workerConnection } from './connections.js';
import { type JobData, engineJobOf, failedJobOf } from './job.js';
import type { ResolvedBullmqOptions, WorkerSettings } from './options.js';
import { QueueWorker, RETRY_DELAY_MS } from './workarounds.js';

/** Milliseconds that the server is given to answer a worker that closes, once no task runs. Whether it is away, nothing tells. */
const ANSWER_TIME = 3_000;

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

  /** What has kept it from taking tasks since it took the last one, if anything. */
  get problem(): string | undefined {
    return this.#problem;
  }

  async close(deadline: AbortSignal): Promise<void> {
    this.#closing.abort();
    await this.#started;
    const giveBack = (): void => this.#deadline.abort(deadline.reason);
    if (deadline.aborted) giveBack();
    deadline.addEventListener('abort', giveBack);
    const silence = Promise.allSettled(this.#running.values()).then(() => setTimeout(ANSWER_TIME, undefined, { ref: false }));
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
    const options = { ...this.#settings, connection: this.#connection, autorun: false, runRetryDelay: RETRY_DELAY_MS };
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

  async #process(job: Job<JobData>, token: string | undefined): Promise<void> {
    const id = job.id!;
    const { signal: deadline } = this.#deadline;
    // A job is handed out again if its lock has run out. One that still runs here has a new lock then, and is not run twice at once.
    let run = this.#running.get(id);
    if (!run) {
      // One that was being fetched when the worker began to close.
      if (this.#closing.signal.aborted) return giveBack(job, token);
      run = this.#host.run(engineJobOf(job), deadline).finally(() => this.#running.delete(id));
      this.#running.set(id, run);
    }
    try {
      await run;
    } catch (thrown) {
      if (deadline.aborted) return giveBack(job, token);
      const failure = failureOf(thrown);
      this.#worker?.failures.add(failure);
      throw failure;
    }
  }
}

/** Has the job run again, at once, without an attempt being used. */
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
