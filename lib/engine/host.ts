import type { AnyFunction } from '../task/background-task.js';
import { type Around, type CallThrough, callThrough } from '../task/call-through.js';
import { messageOf, quoted } from '../task/describe-error.js';
import { BackgroundTasksError, BackgroundTasksShutdownError, taskCalled } from '../task/errors.js';
import { TIMEOUT } from '../task/options.js';
import type { Reporter } from '../task/reporter.js';
import { Task, type TaskObserver } from '../task/task.js';
import type { EngineHost, EngineJob, EngineWorker } from './engine.js';
import type { NamedTaskProviders } from './named-task-providers.js';
import { NamedTask } from './named-task.js';
import type { ResolvedEngineOptions } from './options.js';

/** What an application has for its worker. */
interface HostOptions extends Pick<ResolvedEngineOptions, 'engine'> {
  /** Milliseconds that a task without a timeout of its own is given. */
  readonly timeout: number | undefined;
  readonly around: Around | undefined;
}

/** The receiving half of an application: runs, in a worker, the tasks that the engine hands out. */
export class TaskHost implements EngineHost {
  readonly #providers: NamedTaskProviders;
  readonly #options: HostOptions;
  readonly #reporter: Reporter;
  readonly #through: CallThrough | undefined;
  #worker: EngineWorker | undefined;
  #drained: Promise<void> | undefined;

  constructor(providers: NamedTaskProviders, options: HostOptions, reporter: Reporter) {
    this.#providers = providers;
    this.#options = options;
    this.#reporter = reporter;
    this.#through = callThrough(true, options.around);
  }

  async start(): Promise<void> {
    this.#worker = await this.#options.engine?.work(this);
  }

  /** Takes no more tasks; those that run when the deadline comes are given back. Never rejects. */
  drain(deadline: AbortSignal): Promise<void> {
    return (this.#drained ??= this.#contained(() => this.#worker?.close(deadline)));
  }

  /** Never rejects. */
  close(): Promise<void> {
    return this.#contained(() => this.#options.engine?.close(this));
  }

  async run(job: EngineJob, signal: AbortSignal): Promise<void> {
    let task: Task = new ReportedTask(job);
    const givenUp = (): Error => new BackgroundTasksShutdownError(job.name, `was given up: ${String(signal.reason)}`);
    const giveUp = (): void => void task.giveUp(givenUp());
    signal.addEventListener('abort', giveUp);
    try {
      if (signal.aborted) throw givenUp();
      task = this.#taskOf(job);
      const endedLate: TaskObserver['endedLate'] = (_, how, error) => this.#reporter.endedLate(task, how, error);
      await task.settled(task.options.timeout ?? this.#options.timeout, endedLate, this.#through);
    } catch (error) {
      if (signal.aborted) this.#reporter.warn(givenBack(task, String(signal.reason)));
      else await this.#reporter.failed(task, error);
      throw error;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  failed(job: EngineJob, error: unknown): void {
    void this.#reporter.failed(new ReportedTask(job), error);
  }

  async #contained(close: () => Promise<void> | undefined): Promise<void> {
    try {
      await close();
    } catch (error) {
      this.#reporter.refused(error instanceof Error ? error : new Error(messageOf(error)));
    }
  }

  #taskOf(job: EngineJob): NamedTask {
    const method = this.#providers.find(job.name);
    if (!method) throw unknown(job);
    const func = Reflect.get(method.prototype, method.key) as AnyFunction;
    const task = new NamedTask(method, func, argsOf(job), { timeout: job.timeout });
    task.provider = this.#providers.providerOf(method);
    task.job = job;
    return task;
  }
}

/** What reports are about when there is no method to run, or nothing to run it with. */
class ReportedTask extends Task {
  readonly #job: EngineJob;

  constructor(job: EngineJob) {
    super(() => undefined, [], {});
    this.#job = job;
  }

  override get name(): string {
    return this.#job.name;
  }

  override get attempt(): number {
    return this.#job.attempt;
  }
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
