/** @module nestjs-background-tasks/testing */
import { AsyncResource } from 'node:async_hooks';
import type { BackgroundTasksEngine, EngineEntry, EngineEntryOptions, EngineHost, EngineWorker } from '../engine/engine.js';
import type { JsonValue, TaskState } from '../task/background-task.js';
import { messageOf, typeOf } from '../task/describe.js';
import { type Expectations, validated } from '../task/validation.js';

/** Options of `inProcessEngine()`. */
export interface InProcessEngineOptions {
  /** The number of tasks that run at once, or `false` to run none, for a test that only checks `tasks`. @default 10 */
  worker?: false | number | undefined;
}

/** A task that an application has handed over to an `inProcessEngine()`. */
export interface HandedOverTask extends TaskState {
  readonly args: readonly unknown[];
  /** `attempts`, `backoff`, `delay`, `priority` and `deduplication`, merged from the method and the call. */
  readonly options: EngineEntryOptions;
}

/** An engine in the current process, for tests and development. Its tasks die with the process. */
export interface InProcessEngine extends BackgroundTasksEngine {
  /** The tasks handed over so far, in order, with their current states. Tasks that `deduplication` ignored or replaced are left out. */
  readonly tasks: readonly HandedOverTask[];
  find(id: string): Promise<TaskState | undefined>;
  /**
   * Resolves when no task is running or ready to run. It does not wait for a task's `delay` or `backoff`: advance the time with the fake
   * timers of your test runner. It does not reject if a task fails: see `tasks`.
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
 * Creates an engine for tests, and for development without a server. It runs `@BackgroundTask()` methods in this process, with their
 * attempts, backoff, delay, priority and deduplication, like a queue. Delays use the current global timers, so fake timers control them.
 *
 * @example
 * ```ts
 * const engine = inProcessEngine();
 * BackgroundTasksModule.forRoot({ engine });
 * ```
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, naming the option, its value and what was expected.
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

/** An open application, which runs tasks. */
interface Application {
  /** The async context of its tasks, which belongs to no request. */
  readonly context: AsyncResource;
  /** Fires when its running tasks have to be requeued. */
  readonly deadline: AbortController;
  readonly running: Set<Promise<void>>;
  isClosing: boolean;
}

/** The longest delay of a timer, in ms. A longer one would fire at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

class MemoryEngine implements InProcessEngine {
  readonly #concurrency: number;
  readonly #jobs = new Map<string, Job>();
  /** The tasks that are ready to run. */
  readonly #ready: Job[] = [];
  readonly #keys = new Map<string, Taken>();
  readonly #applications = new Map<EngineHost, Application>();
  readonly #idle = new Set<() => void>();

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
    const application = {
      context: new AsyncResource('InProcessEngine'),
      deadline: new AbortController(),
      running: new Set<Promise<void>>(),
      isClosing: false,
    };
    this.#applications.set(host, application);
    this.#runSoon();
    return { close: (deadline) => this.#drain(application, deadline) };
  }

  /** Tasks stay, also delayed ones: the next application runs them. */
  async close(host: EngineHost): Promise<void> {
    this.#applications.delete(host);
  }

  async #drain(application: Application, deadline: AbortSignal): Promise<void> {
    application.isClosing = true;
    const requeueRunning = (): void => application.deadline.abort(deadline.reason);
    if (deadline.aborted) requeueRunning();
    deadline.addEventListener('abort', requeueRunning);
    await Promise.all(application.running);
    deadline.removeEventListener('abort', requeueRunning);
  }

  #add(entry: EngineEntry): void {
    // The entry was handed over again.
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

  /**
   * Waits until all entries of one call are added, so that their priorities count. Not with `queueMicrotask`, which fake timers replace.
   */
  #runSoon(): void {
    void Promise.resolve().then(() => this.#runReady());
  }

  #runReady(): void {
    while (this.#ready.length > 0 && this.#runningCount < this.#concurrency) {
      const open = this.#openFor(this.#ready[0]!);
      if (!open) break;
      const job = this.#ready.shift()!;
      const [host, { context, deadline, running }] = open;
      const run = context
        .runInAsyncScope(() => this.#run(job, host, deadline.signal))
        .finally(() => {
          running.delete(run);
          this.#runReady();
        });
      running.add(run);
    }
    this.#tellIdle();
  }

  /** The application that gets a task: one that has its method, if there is one. */
  #openFor({ entry, attempt }: Job): [EngineHost, Application] | undefined {
    const open = this.#open;
    return open.find(([host]) => host.knows({ ...entry, attempt })) ?? open[0];
  }

  get #open(): [EngineHost, Application][] {
    return [...this.#applications].filter(([, { isClosing }]) => !isClosing);
  }

  get #runningCount(): number {
    return [...this.#applications.values()].reduce((count, { running }) => count + running.size, 0);
  }

  async #run(job: Job, host: EngineHost, deadline: AbortSignal): Promise<void> {
    job.state = 'running';
    const { entry, attempt } = job;
    const { attempts = 1, backoff = 0 } = entry.options;
    const updateProgress = async (value: JsonValue): Promise<void> => {
      job.progress = value;
    };
    try {
      await host.run({ ...entry, attempt, attempts, updateProgress }, deadline);
      job.state = 'completed';
      job.failure = undefined;
    } catch (error) {
      job.state = 'waiting';
      // A task that was requeued has used no attempt.
      if (deadline.aborted) return void this.#ready.unshift(job);
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
    const isOpen = this.#concurrency > 0 && this.#open.length > 0;
    if (this.#runningCount > 0 || (isOpen && this.#ready.length > 0)) return;
    for (const resolve of this.#idle) resolve();
    this.#idle.clear();
  }
}

function stateOf({ entry: { id, name }, state, attempt, progress, failure }: Job): TaskState {
  return { id, name, state, attempt, ...(progress !== undefined && { progress }), ...(failure !== undefined && { failure }) };
}

/** Tasks without a priority run before all others. */
function priorityOf({ entry }: Job): number {
  return entry.options.priority ?? 0;
}

function pauseAfter(attempt: number, backoff: NonNullable<EngineEntryOptions['backoff']>): number {
  if (typeof backoff === 'number') return backoff;
  return backoff.type === 'fixed' ? backoff.delay : Math.min(backoff.delay * 2 ** (attempt - 1), MAX_DELAY_MS);
}

/** Starts a timer that does not keep the process alive. Looks up the global function at each call, as a test may have replaced it. */
function later(func: () => void, milliseconds: number): ReturnType<typeof setTimeout> {
  const timer = setTimeout(func, milliseconds);
  // In jsdom, a timer is a number.
  if (typeof timer === 'object') timer.unref();
  return timer;
}
