import { AsyncResource } from 'node:async_hooks';
import type { BackgroundTasksEngine, EngineEntry, EngineEntryOptions, EngineHost, EngineWorker } from '../engine/engine.js';
import type { JsonValue, TaskState } from '../task/background-task.js';
import { messageOf, typeOf } from '../task/describe.js';
import { type Expectations, validated } from '../task/validation.js';

/** Options of `inProcessEngine()`. */
export interface InProcessEngineOptions {
  /** How many tasks run at once, or `false` to run none: for a test that only looks at `tasks`. @default 10 */
  worker?: false | number | undefined;
}

/** A task that an application has handed over to an `inProcessEngine()`. */
export interface HandedOverTask extends TaskState {
  readonly args: readonly unknown[];
  /** `attempts`, `backoff`, `delay`, `priority` and `deduplication`, the method's and those of the call. */
  readonly options: EngineEntryOptions;
}

/** An engine in the process of a test, or of development. Its tasks die with the process. */
export interface InProcessEngine extends BackgroundTasksEngine {
  /** The tasks that were handed over, in that order, as they are now. Those that `deduplication` has ignored or replaced are not among them. */
  readonly tasks: readonly HandedOverTask[];
  find(id: string): Promise<TaskState | undefined>;
  /**
   * Resolves when no task runs or could run now. A task that waits for its `delay` or its `backoff` is not waited for: let the time pass with the
   * timers of your test runner. A task that fails does not make it reject: see `tasks`.
   */
  onIdle(): Promise<void>;
}

const EXPECTATIONS: Expectations<InProcessEngineOptions> = {
  worker: {
    expected: 'false or a positive integer',
    accepts: (value) => value === false || (Number.isInteger(value) && Number(value) > 0),
  },
};

/**
 * An engine for tests, and for development without a server: it runs `@BackgroundTask()` methods in this process, with their attempts, backoff,
 * delay, priority and deduplication, as a queue would. Delays use the timers of the moment, so that fake ones control them.
 *
 * @example
 * ```ts
 * const engine = inProcessEngine();
 * BackgroundTasksModule.forRoot({ engine });
 * ```
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function inProcessEngine(options: InProcessEngineOptions = {}): InProcessEngine {
  const { worker = 10 } = validated<InProcessEngineOptions>('inProcessEngine()', options, EXPECTATIONS);
  return new MemoryEngine(worker === false ? 0 : worker);
}

interface Job {
  readonly entry: EngineEntry;
  state: 'waiting' | 'running' | 'completed' | 'failed';
  attempt: number;
  /** The timer of its delay or backoff. */
  timer?: ReturnType<typeof setTimeout> | undefined;
  progress?: JsonValue;
  failure?: string | undefined;
}

/** A key of `deduplication`, and the task that has it. */
interface Taken {
  job: Job;
  timer?: ReturnType<typeof setTimeout> | undefined;
}

class MemoryEngine implements InProcessEngine {
  readonly #concurrency: number;
  readonly #jobs = new Map<string, Job>();
  /** The tasks that may run now. */
  readonly #ready: Job[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #keys = new Map<string, Taken>();
  /** The applications that are open, each with the async context that its tasks run in: that of no request. */
  readonly #hosts = new Map<EngineHost, AsyncResource>();
  readonly #closing = new Set<EngineHost>();
  readonly #idle = new Set<() => void>();
  #deadline = new AbortController();

  constructor(concurrency: number) {
    this.#concurrency = concurrency;
  }

  get tasks(): readonly HandedOverTask[] {
    return [...this.#jobs.values()].map((job) => ({
      ...stateOf(job),
      args: JSON.parse(job.entry.args) as unknown[],
      options: job.entry.options,
    }));
  }

  async find(id: string): Promise<TaskState | undefined> {
    const job = this.#jobs.get(id);
    return job && stateOf(job);
  }

  onIdle(): Promise<void> {
    return new Promise((resolve) => {
      this.#idle.add(resolve);
      this.#tellIdle();
    });
  }

  async enqueue(entries: readonly EngineEntry[]): Promise<void> {
    for (const entry of entries) this.#add(entry);
  }

  work(host: EngineHost): EngineWorker {
    if (this.#hosts.size === 0) this.#deadline = new AbortController();
    this.#hosts.set(host, new AsyncResource('InProcessEngine'));
    this.#runSoon();
    return { close: (deadline) => this.#drain(host, deadline) };
  }

  async close(host: EngineHost): Promise<void> {
    this.#hosts.delete(host);
    this.#closing.delete(host);
    if (this.#hosts.size > 0) return;
    for (const { timer } of [...this.#jobs.values(), ...this.#keys.values()]) clearTimeout(timer);
  }

  async #drain(host: EngineHost, deadline: AbortSignal): Promise<void> {
    this.#closing.add(host);
    // Another application of this engine goes on with its tasks.
    if (this.#closing.size < this.#hosts.size) return;
    const giveBack = (): void => this.#deadline.abort(deadline.reason);
    if (deadline.aborted) giveBack();
    deadline.addEventListener('abort', giveBack);
    await Promise.all(this.#running);
    deadline.removeEventListener('abort', giveBack);
  }

  #add(entry: EngineEntry): void {
    // Handed over again.
    if (this.#jobs.has(entry.id)) return;
    const job: Job = { entry, state: 'waiting', attempt: 1 };
    if (!this.#takeKey(job)) return;
    this.#jobs.set(entry.id, job);
    this.#makeReady(job, entry.options.delay ?? 0);
  }

  /** Takes the task's key, if it has one. Returns false if another task has it. */
  #takeKey(job: Job): boolean {
    const { deduplication } = job.entry.options;
    if (!deduplication) return true;
    const { id, ttl, extend, replace } = deduplication;
    const taken = this.#keys.get(id);
    if (taken) {
      const isReplaced = replace === true && taken.job.timer !== undefined && taken.job.attempt === 1;
      if (isReplaced) {
        clearTimeout(taken.job.timer);
        this.#jobs.delete(taken.job.entry.id);
        taken.job = job;
      }
      if (extend && ttl !== undefined) this.#startTtl(id, taken, ttl);
      return isReplaced;
    }
    const key: Taken = { job };
    this.#keys.set(id, key);
    if (ttl !== undefined) this.#startTtl(id, key, ttl);
    return true;
  }

  #startTtl(id: string, key: Taken, ttl: number): void {
    clearTimeout(key.timer);
    key.timer = later(() => this.#keys.delete(id), ttl);
  }

  #releaseKey(job: Job): void {
    const { deduplication } = job.entry.options;
    if (deduplication && deduplication.ttl === undefined && this.#keys.get(deduplication.id)?.job === job)
      this.#keys.delete(deduplication.id);
  }

  #makeReady(job: Job, delay: number): void {
    if (delay > 0) {
      job.timer = later(() => {
        job.timer = undefined;
        this.#makeReady(job, 0);
      }, delay);
      return;
    }
    const isBehind = (other: Job): boolean => priorityOf(other) > priorityOf(job);
    const index = this.#ready.findIndex(isBehind);
    this.#ready.splice(index < 0 ? this.#ready.length : index, 0, job);
    this.#runSoon();
  }

  /** Once all entries of one call are there, so that their priorities count. Not with `queueMicrotask`, which fake timers replace. */
  #runSoon(): void {
    void Promise.resolve().then(() => this.#runReady());
  }

  #runReady(): void {
    const open = [...this.#hosts].find(([host]) => !this.#closing.has(host));
    while (open && this.#running.size < this.#concurrency) {
      const job = this.#ready.shift();
      if (!job) break;
      const [host, context] = open;
      const run = context
        .runInAsyncScope(() => this.#run(job, host))
        .finally(() => {
          this.#running.delete(run);
          this.#runReady();
        });
      this.#running.add(run);
    }
    this.#tellIdle();
  }

  async #run(job: Job, host: EngineHost): Promise<void> {
    job.state = 'running';
    const { entry, attempt } = job;
    const { attempts = 1, backoff = 0 } = entry.options;
    const { signal } = this.#deadline;
    const updateProgress = async (value: JsonValue): Promise<void> => {
      job.progress = value;
    };
    try {
      await host.run({ ...entry, attempt, attempts, updateProgress }, signal);
      job.state = 'completed';
      job.failure = undefined;
    } catch (error) {
      job.state = 'waiting';
      // What was given back has used no attempt.
      if (signal.aborted) return void this.#ready.unshift(job);
      job.failure = messageOf(error);
      if (attempt < attempts && typeOf(error) !== 'UnrecoverableError') {
        job.attempt += 1;
        return this.#makeReady(job, pauseAfter(attempt, backoff));
      }
      job.state = 'failed';
    }
    this.#releaseKey(job);
  }

  #tellIdle(): void {
    const isOpen = this.#concurrency > 0 && this.#hosts.size > this.#closing.size;
    if (this.#running.size > 0 || (isOpen && this.#ready.length > 0)) return;
    for (const resolve of this.#idle) resolve();
    this.#idle.clear();
  }
}

function stateOf({ entry: { id, name }, state, attempt, progress, failure }: Job): TaskState {
  return { id, name, state, attempt, ...(progress !== undefined && { progress }), ...(failure !== undefined && { failure }) };
}

/** Tasks without a priority come before all others. */
function priorityOf({ entry }: Job): number {
  return entry.options.priority ?? 0;
}

function pauseAfter(attempt: number, backoff: NonNullable<EngineEntryOptions['backoff']>): number {
  if (typeof backoff === 'number') return backoff;
  return backoff.type === 'fixed' ? backoff.delay : backoff.delay * 2 ** (attempt - 1);
}

/** The global timers, looked up now: a test may have replaced them. They keep no process alive. */
function later(func: () => void, milliseconds: number): ReturnType<typeof setTimeout> {
  const timer = setTimeout(func, milliseconds);
  // A number in jsdom.
  if (typeof timer === 'object') timer.unref();
  return timer;
}
