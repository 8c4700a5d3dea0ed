import { hostname } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import type { AnyFunction, JsonValue } from '../task/background-task.js';
import { type Around, type TaskCaller, taskCaller } from '../task/call.js';
import { inOneLine, messageOf, quoted } from '../task/describe.js';
import { BackgroundTasksError, BackgroundTasksShutdownError, taskCalled } from '../task/errors.js';
import type { TaskLog } from '../task/log.js';
import { NO_OPTIONS, TIMEOUT } from '../task/validation.js';
import { type RunObserver, Task, type TaskBinding } from '../task/task.js';
import type { EngineHealth, EngineHost, EngineJob, EngineWorker } from './engine.js';
import { NamedCall } from './named-call.js';
import type { NamedProviders } from './named-providers.js';
import { OnceRun } from './once.js';
import type { ResolvedEngineOptions } from './options.js';
import type { BackgroundTasksOutbox } from './outbox.js';

/** Time for an engine to report its health, in ms. */
const HEALTH_MS = 5_000;

/** The options of an application for its worker. */
interface HostOptions extends Pick<ResolvedEngineOptions, 'engine' | 'outbox'> {
  /** The timeout of tasks without their own, in ms. */
  readonly timeout: number | undefined;
  readonly around: Around | undefined;
}

/** The maximum number of unknown names to remember. Others may put any number of names into a queue. */
const MAX_UNKNOWN_NAMES = 1_000;

/** The receiving side of an application: in a worker, it runs the tasks of the engine. */
export class WorkerHost implements EngineHost {
  readonly #providers: NamedProviders;
  readonly #options: HostOptions;
  readonly #log: TaskLog;
  readonly #caller: TaskCaller | undefined;
  /** The names of tasks whose methods this process lacks. It warns of each once. */
  readonly #unknownNames = new Set<string>();
  readonly #running = new Set<EngineJob>();
  /** The calls of `onError` that have not ended. */
  readonly #reports = new Set<Promise<unknown>>();
  #worker: EngineWorker | undefined;
  #drained: Promise<void> | undefined;

  constructor(providers: NamedProviders, options: HostOptions, log: TaskLog) {
    this.#providers = providers;
    this.#options = options;
    this.#log = log;
    this.#caller = taskCaller(true, options.around);
  }

  get tasks(): EngineHost['tasks'] {
    return this.#providers.methods.map(({ name, options: { queue } }) => ({ name, queue }));
  }

  /** The names of the running tasks, one for each task. */
  get runningNames(): readonly string[] {
    return [...this.#running].map(({ name }) => name);
  }

  /** The health of the engine, or `undefined` without an engine. Never rejects. */
  async health(): Promise<EngineHealth | undefined> {
    const { engine } = this.#options;
    if (!engine) return undefined;
    const silence = new AbortController();
    const silent = { sends: false, problem: `the engine did not answer within ${HEALTH_MS} ms` };
    try {
      return await Promise.race([
        // An engine without `health()` counts as healthy.
        engine.health?.(this) ?? { sends: true },
        wait(HEALTH_MS, silent, { ref: false, signal: silence.signal }),
      ]);
    } catch (error) {
      return { sends: false, problem: messageOf(error) };
    } finally {
      silence.abort();
    }
  }

  /** Does nothing in an application that was closed while it started. */
  async start(): Promise<void> {
    if (this.#drained) return;
    const worker = await this.#options.engine?.work(this);
    // The type narrows the field, but the application may have been closed meanwhile.
    if (this.#drained as Promise<void> | undefined) await worker?.close(AbortSignal.abort('the application is closed'));
    else this.#worker = worker;
  }

  /** Takes no more tasks, requeues those that are still running at the deadline, and waits for `onError`. Never rejects. */
  drain(deadline: AbortSignal): Promise<void> {
    return (this.#drained ??= this.#drain(deadline));
  }

  async #drain(deadline: AbortSignal): Promise<void> {
    await this.#contained(() => this.#worker?.close(deadline));
    await Promise.all(this.#reports);
  }

  /** Never rejects. */
  close(): Promise<void> {
    return this.#contained(() => this.#options.engine?.close(this));
  }

  knows(job: EngineJob): boolean {
    if (this.#providers.find(job.name)) return true;
    if (this.#unknownNames.size < MAX_UNKNOWN_NAMES && !this.#unknownNames.has(job.name)) {
      this.#unknownNames.add(job.name);
      this.#log.warn(lacksMethod(job));
    }
    return false;
  }

  async run(job: EngineJob, signal: AbortSignal): Promise<void> {
    let task = reportedTask(job);
    const abortError = (): Error => new BackgroundTasksShutdownError(job.name, `was aborted: ${String(signal.reason)}`);
    const abort = (): void => void task.abort(abortError());
    signal.addEventListener('abort', abort);
    this.#running.add(job);
    try {
      if (signal.aborted) throw abortError();
      const endedLate: RunObserver['endedLate'] = (_, how, error) => this.#log.endedLate(task, how, error);
      const run = (): Promise<void> => {
        task = this.#taskOf(job);
        return task.runToEnd(task.options.timeout ?? this.#options.timeout, endedLate, this.#caller);
      };
      const { outbox } = this.#options;
      if (outbox && this.#providers.find(job.name)?.options.once) await this.#runOnce(outbox, job, run, () => task.isAborted);
      else await run();
    } catch (error) {
      if (!signal.aborted) {
        this.#reportFailure(task, error);
        throw error;
      }
      this.#log.warn(requeued(task, String(signal.reason)));
      // Whatever the error was: the worker requeues the task for this one alone.
      throw abortError();
    } finally {
      this.#running.delete(job);
      signal.removeEventListener('abort', abort);
    }
  }

  /** Runs a task with `once`, unless it is done. */
  async #runOnce(outbox: BackgroundTasksOutbox, job: EngineJob, run: () => Promise<void>, isAborted: () => boolean): Promise<void> {
    if (await outbox.isDone(job.id)) return;
    const once = new OnceRun(outbox, job.id);
    try {
      await once.call(run, isAborted);
    } catch (error) {
      // Another run was faster, and the transaction of this one was rolled back.
      if (once.hasFailedToMark && (await outbox.isDone(job.id))) return;
      throw error;
    }
    if (!once.isMarked && !once.hasFailedToMark) this.#log.onceWithoutTransaction(job.name);
  }

  failed(job: EngineJob, error: unknown): void {
    this.#reportFailure(reportedTask(job), error);
  }

  /** Does not wait for `onError`, which would hold a place in the worker. A shutdown does. */
  #reportFailure(task: Task, error: unknown): void {
    this.#log.failed(task, error);
    const report = Promise.resolve(this.#log.callOnError(task, error));
    this.#reports.add(report);
    void report.then(() => this.#reports.delete(report));
  }

  async #contained(close: () => Promise<void> | undefined): Promise<void> {
    try {
      await close();
    } catch (error) {
      this.#log.refused(error instanceof Error ? error : new Error(messageOf(error)));
    }
  }

  #taskOf(job: EngineJob): Task {
    const method = this.#providers.find(job.name);
    if (!method) throw unknown(job);
    const func = Reflect.get(method.prototype, method.key) as AnyFunction;
    const call = new NamedCall(method, {}, job);
    if (job.updateProgress) call.onProgress = progressWriter(job, (warning) => this.#log.warn(warning));
    call.provider = this.#providers.providerOf(method);
    return new Task(func, argsOf(job), { timeout: job.timeout ?? method.options.timeout }, call);
  }
}

/** Maximum time that a task waits for its progress to be stored, in ms. The connection itself would wait while the server is down. */
const PROGRESS_MS = 1_000;

/** Stores the progress of a task. While one value is being stored, only the last of the further values waits. */
function progressWriter(job: EngineJob, warn: (warning: string) => void): (value: JsonValue) => Promise<void> {
  let latest: JsonValue;
  let writing: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  const write = async (): Promise<void> => {
    next = undefined;
    try {
      await job.updateProgress?.(latest);
    } catch (error) {
      warn(`The progress of background task ${quoted(job.name)} (job ${job.id}) was not stored: ${messageOf(error)}`);
    }
  };
  return async (value) => {
    latest = value;
    if (!writing) writing = write();
    else next ??= writing.then(() => (writing = write()));
    const written = next ?? writing;
    void written.then(() => {
      if (!next) writing = undefined;
    });
    const timeout = new AbortController();
    await Promise.race([written, wait(PROGRESS_MS, undefined, { ref: false, signal: timeout.signal }).catch(() => undefined)]);
    timeout.abort();
  };
}

/** A task for reports, used if there is no method to run, or its data is unreadable. */
function reportedTask({ id, name, attempt, attempts = 1 }: EngineJob): Task {
  const binding: TaskBinding = {
    name,
    id,
    attempt,
    attempts,
    carried: undefined,
    jobId: id,
    writeProgress: () => undefined,
    call: () => undefined,
    release: () => undefined,
  };
  return new Task(() => undefined, [], NO_OPTIONS, binding);
}

function argsOf(job: EngineJob): readonly unknown[] {
  try {
    const args: unknown = JSON.parse(job.args);
    if (Array.isArray(args) && (job.timeout === undefined || TIMEOUT.accepts(job.timeout))) return args;
  } catch {
    // The error of `JSON.parse` quotes the data, which must not be logged.
  }
  throw unreadable(job);
}

function unreadable({ name }: EngineJob): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `${taskCalled(name)} came from the engine with data that this package did not write: expected its \`args\` to be an array, as JSON, ` +
      'and its `timeout`, if any, milliseconds; remove the job from the queue, and add jobs to that queue only with addTask()',
  );
}

function requeued({ name, jobId }: Task, reason: string): string {
  return `${taskCalled(name)} (job ${jobId}) was requeued, and will run again: ${reason}`;
}

function unknown(job: EngineJob): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `${taskCalled(job.name)} came from the engine, but no provider of this application has a @BackgroundTask(${quoted(job.name)}) method: ` +
      `${missing(job)}, or keep the name when you rename a method`,
  );
}

function lacksMethod(job: EngineJob): string {
  return (
    `${taskCalled(job.name)} came from the engine, but this process (${process.pid} on ${hostname()}) has no @BackgroundTask(${quoted(job.name)}) ` +
    `method. Its tasks are requeued for up to a day, for workers that have it. If there are none, ${missing(job)}. ` +
    'Services that share a server need different `queue` names'
  );
}

/** The advice for a missing method. Others may have put the job into the queue, with any data. */
function missing({ provider }: EngineJob): string {
  return `add ${typeof provider === 'string' ? inOneLine(provider) : 'its class'} to the \`providers\` of a module of the worker`;
}
