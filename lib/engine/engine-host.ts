import { Inject, Injectable, Optional } from '@nestjs/common';
import { BackgroundTask, Task } from '../background-task.js';
import type { EngineHost, EngineJob, EngineWorker } from '../background-tasks.engine.js';
import { BackgroundTasksError, BackgroundTasksShutdownError } from '../background-tasks.errors.js';
import { MODULE_OPTIONS, type ResolvedOptions, resolveOptions } from '../background-tasks.options.js';
import { BackgroundTasksReporter } from '../background-tasks.reporter.js';
import { NamedTasks } from './named-tasks.js';

/** The receiving half of an application: runs, in a worker, the tasks that the engine hands out. */
@Injectable()
export class EngineTasksHost implements EngineHost {
  readonly #options: ResolvedOptions;
  readonly #reporter: BackgroundTasksReporter;
  #worker: EngineWorker | undefined;
  #drained: Promise<void> | undefined;

  constructor(
    private readonly namedTasks: NamedTasks,
    @Optional() @Inject(MODULE_OPTIONS) options?: unknown,
  ) {
    this.#options = resolveOptions(options);
    this.#reporter = new BackgroundTasksReporter(this.#options.onError);
  }

  start(): void {
    this.#worker = this.#options.engine?.work(this);
  }

  /** Takes no more tasks; those that run when the deadline comes are given back. Never rejects. */
  drain(deadline: AbortSignal): Promise<void> {
    return (this.#drained ??= this.#contained(() => this.#worker?.close(deadline)));
  }

  /** Never rejects. */
  close(): Promise<void> {
    return this.#contained(() => this.#options.engine?.close());
  }

  async run(job: EngineJob, signal: AbortSignal): Promise<void> {
    let task: BackgroundTask = new ReportedTask(job);
    const givenUp = (): Error => new BackgroundTasksShutdownError(job.name, `was given up: ${String(signal.reason)}`);
    const giveUp = (): void => void task.giveUp(givenUp());
    signal.addEventListener('abort', giveUp);
    try {
      if (signal.aborted) throw givenUp();
      task = this.#taskOf(job);
      await task.settled(task.options.timeout ?? this.#options.timeout, (_, how, error) => this.#reporter.endedLate(task, how, error));
    } catch (error) {
      if (signal.aborted) this.#reporter.givenBack(task, String(signal.reason));
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
      this.#reporter.refused(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #taskOf(job: EngineJob): BackgroundTask {
    const method = this.namedTasks.find(job.name);
    if (!method) throw unknown(job);
    const task = taskOn(Reflect.get(method.prototype, method.key) as (...args: unknown[]) => unknown, job);
    if (!task.named) throw unknown(job);
    Object.assign(task.named, { host: this.namedTasks.hostOf(method), job });
    return task;
  }
}

/** What reports are about when there is no method to run, or nothing to run it with. */
class ReportedTask extends Task {
  readonly #job: EngineJob;

  constructor(job: EngineJob) {
    super(() => undefined);
    this.#job = job;
  }

  override get name(): string {
    return this.#job.name;
  }

  override get attempt(): number {
    return this.#job.attempt;
  }
}

function taskOn(func: (...args: unknown[]) => unknown, job: EngineJob): BackgroundTask {
  try {
    const args: unknown = JSON.parse(job.args);
    if (Array.isArray(args)) return new BackgroundTask({ timeout: job.timeout }, func, ...args);
  } catch {
    // The error quotes the data, which is nobody's business.
  }
  throw unreadable(job);
}

function unreadable({ name }: EngineJob): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_TASK',
    `Background task "${name}" came from the engine with data that this package has not written: expected its \`args\` to be an array, as JSON, ` +
      'and its `timeout`, if any, milliseconds; remove it from the queue, and have addTask() alone add tasks there',
  );
}

function unknown({ name, provider }: EngineJob): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_TASK',
    `Background task "${name}" came from the engine, and no provider of this application has a @BackgroundTask("${name}") method: ` +
      `add ${provider} to the \`providers\` of a module of the worker, or deploy the worker before what adds its tasks`,
  );
}
