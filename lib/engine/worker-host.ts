import { setTimeout } from 'node:timers/promises';
import type { AnyFunction } from '../task/background-task.js';
import { type Around, type TaskCaller, taskCaller } from '../task/call.js';
import { messageOf, quoted } from '../task/describe.js';
import { BackgroundTasksError, BackgroundTasksShutdownError, taskCalled } from '../task/errors.js';
import type { TaskLog } from '../task/log.js';
import { NO_OPTIONS, TIMEOUT } from '../task/validation.js';
import { type RunObserver, Task, type TaskBinding } from '../task/task.js';
import type { EngineHealth, EngineHost, EngineJob, EngineWorker } from './engine.js';
import { NamedCall } from './named-call.js';
import type { NamedProviders } from './named-providers.js';
import type { ResolvedEngineOptions } from './options.js';

/** Time that an engine is given to tell how it is, in ms. */
const HEALTH_TIME_MS = 5_000;

/** The options of an application for its worker. */
interface HostOptions extends Pick<ResolvedEngineOptions, 'engine'> {
  /** The timeout of tasks without one of their own, in ms. */
  readonly timeout: number | undefined;
  readonly around: Around | undefined;
}

/** The receiving half of an application: in a worker, it runs the tasks that the engine hands out. */
export class WorkerHost implements EngineHost {
  readonly #providers: NamedProviders;
  readonly #options: HostOptions;
  readonly #log: TaskLog;
  readonly #caller: TaskCaller | undefined;
  readonly #running = new Set<EngineJob>();
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

  /** The names of the tasks that run in the worker, one for each task. */
  get runningNames(): readonly string[] {
    return [...this.#running].map(({ name }) => name);
  }

  /** How the engine is, or `undefined` without an engine. Never rejects. */
  async health(): Promise<EngineHealth | undefined> {
    const { engine } = this.#options;
    if (!engine) return undefined;
    const silence = new AbortController();
    const silent = { sends: false, problem: `the engine did not answer within ${HEALTH_TIME_MS} ms` };
    try {
      return await Promise.race([
        // An engine that cannot tell how it is.
        engine.health?.(this) ?? { sends: true },
        setTimeout(HEALTH_TIME_MS, silent, { ref: false, signal: silence.signal }),
      ]);
    } catch (error) {
      return { sends: false, problem: messageOf(error) };
    } finally {
      silence.abort();
    }
  }

  async start(): Promise<void> {
    this.#worker = await this.#options.engine?.work(this);
  }

  /** Takes no more tasks; those that run at the deadline are given back. Never rejects. */
  drain(deadline: AbortSignal): Promise<void> {
    return (this.#drained ??= this.#contained(() => this.#worker?.close(deadline)));
  }

  /** Never rejects. */
  close(): Promise<void> {
    return this.#contained(() => this.#options.engine?.close(this));
  }

  async run(job: EngineJob, signal: AbortSignal): Promise<void> {
    let task = reportedTask(job);
    const abortError = (): Error => new BackgroundTasksShutdownError(job.name, `was given up: ${String(signal.reason)}`);
    const abort = (): void => void task.abort(abortError());
    signal.addEventListener('abort', abort);
    this.#running.add(job);
    try {
      if (signal.aborted) throw abortError();
      task = this.#taskOf(job);
      const endedLate: RunObserver['endedLate'] = (_, how, error) => this.#log.endedLate(task, how, error);
      await task.runToEnd(task.options.timeout ?? this.#options.timeout, endedLate, this.#caller);
    } catch (error) {
      if (signal.aborted) this.#log.warn(givenBack(task, String(signal.reason)));
      else await this.#reportFailure(task, error);
      throw error;
    } finally {
      this.#running.delete(job);
      signal.removeEventListener('abort', abort);
    }
  }

  failed(job: EngineJob, error: unknown): void {
    void this.#reportFailure(reportedTask(job), error);
  }

  async #reportFailure(task: Task, error: unknown): Promise<void> {
    this.#log.failed(task, error);
    await this.#log.callOnError(task, error);
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
    const call = new NamedCall(method, undefined, job);
    call.provider = this.#providers.providerOf(method);
    return new Task(func, argsOf(job), { timeout: job.timeout ?? method.options.timeout }, call);
  }
}

/** The task that reports are about when there is no method to run, or nothing to run it with. */
function reportedTask({ id, name, attempt }: EngineJob): Task {
  const binding: TaskBinding = {
    name,
    id,
    attempt,
    attempts: 1,
    carried: undefined,
    canBeCancelled: false,
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
    // The error quotes the data, which must not be logged.
  }
  throw unreadable(job);
}

function unreadable({ name }: EngineJob): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_TASK',
    `${taskCalled(name)} came from the engine with data that this package has not written: expected its \`args\` to be an array, as JSON, ` +
      'and its `timeout`, if any, milliseconds; remove the job from the queue, and add jobs to that queue with addTask() only',
  );
}

function givenBack({ name }: Task, reason: string): string {
  return `${taskCalled(name)} is left to the engine, which will have it run again: ${reason}`;
}

function unknown({ name, provider }: EngineJob): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_TASK',
    `${taskCalled(name)} came from the engine, and no provider of this application has a @BackgroundTask(${quoted(name)}) method: ` +
      `add ${provider} to the \`providers\` of a module of the worker, or deploy the worker before what adds its tasks`,
  );
}
