import { Inject, Injectable, Optional } from '@nestjs/common';
import { BackgroundTask } from '../background-task.js';
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
    const task = this.#taskOf(job);
    const giveUp = (): void => void task.giveUp(new BackgroundTasksShutdownError(task.name, `was given up: ${String(signal.reason)}`));
    signal.addEventListener('abort', giveUp);
    try {
      if (!task.named) throw unknown(job);
      await task.settled(task.options.timeout, (_, how, error) => this.#reporter.endedLate(task, how, error));
    } catch (error) {
      if (signal.aborted) this.#reporter.givenBack(task, String(signal.reason));
      else await this.#reporter.failed(task, error);
      throw error;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }

  failed(job: EngineJob, error: unknown): void {
    void this.#reporter.failed(this.#taskOf(job), error);
  }

  async #contained(close: () => Promise<void> | undefined): Promise<void> {
    try {
      await close();
    } catch (error) {
      this.#reporter.refused(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #taskOf(job: EngineJob): BackgroundTask {
    const { name, args, timeout = this.#options.timeout } = job;
    const method = this.namedTasks.find(name);
    // Without a method: for the report alone.
    if (!method) return new BackgroundTask({ name }, () => undefined);
    const given = JSON.parse(args) as unknown[];
    const func = Reflect.get(method.prototype, method.key) as (...args: unknown[]) => unknown;
    const task = new BackgroundTask({ timeout }, func, ...given);
    if (task.named) Object.assign(task.named, { host: this.namedTasks.hostOf(method), job });
    return task;
  }
}

function unknown({ name, provider }: EngineJob): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_TASK',
    `Background task "${name}" came from the engine, and no provider of this application has a @BackgroundTask("${name}") method: ` +
      `add ${provider} to the \`providers\` of a module of the worker, or deploy the worker before what adds its tasks`,
  );
}
