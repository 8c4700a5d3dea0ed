import { inspect } from 'node:util';
import { Logger } from '@nestjs/common';
import type { BackgroundTask } from './background-task.js';
import type { ResolvedOptions } from './background-tasks.options.js';

/**
 * Says what becomes of tasks: by name, never with their arguments, and without throwing whatever the error, the logger or `onError` do. It
 * does so in the async context of the task, so that a logger that knows the current request, or trace, knows the right one.
 */
export class BackgroundTasksReporter {
  readonly #logger = new Logger('BackgroundTasks');
  readonly #onError: ResolvedOptions['onError'];

  constructor(onError: ResolvedOptions['onError']) {
    this.#onError = onError;
  }

  /** Logs the error and hands it to `onError`; resolves once that is through. */
  failed(task: BackgroundTask, error: unknown): Promise<void> {
    return task.within(() => this.#failed(task, error));
  }

  async #failed(task: BackgroundTask, error: unknown): Promise<void> {
    this.#log('error', `Background task "${task.name}" failed: ${messageOf(error)}`, stackOf(error));
    try {
      await this.#onError?.(error, task);
    } catch (cause) {
      this.#log('error', `onError failed for background task "${task.name}": ${messageOf(cause)}`, stackOf(cause));
    }
  }

  discarded(task: BackgroundTask, reason: string): void {
    task.within(() => this.#log('debug', `Background task "${task.name}" was discarded: ${reason}`));
  }

  addedLate(task: BackgroundTask): void {
    this.#log(
      'warn',
      `Background task "${task.name}" was added after its request was over and runs at once; await the work that adds it, ` +
        'and do not keep the list of a request in a singleton or a durable provider',
    );
  }

  refused(error: Error): void {
    this.#log('error', error.message);
  }

  endedLate(task: BackgroundTask, how: 'completed' | 'failed', error: unknown): void {
    task.within(() => this.#endedLate(task, how, error));
  }

  #endedLate(task: BackgroundTask, how: 'completed' | 'failed', error: unknown): void {
    if (how === 'completed') this.#log('warn', `Background task "${task.name}" completed after it had been given up`);
    else this.#log('error', `Background task "${task.name}" failed after it had been given up: ${messageOf(error)}`, stackOf(error));
  }

  #log(level: 'error' | 'warn' | 'debug', message: string, stack?: string): void {
    try {
      if (stack === undefined) this.#logger[level](message);
      else this.#logger[level](message, stack);
    } catch {
      // A logger that throws must not take the task's siblings, or the process, with it.
    }
  }
}

/** What an error is counted under: its class, or `_OTHER`, as OpenTelemetry has it, for a value that is no error. */
export function typeOf(error: unknown): string {
  try {
    return error instanceof Error ? String(error.name) : '_OTHER';
  } catch {
    return '_OTHER';
  }
}

export function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? error.message : inspect(error, { depth: 1 });
  } catch {
    return 'an error that cannot be printed';
  }
}

export function stackOf(error: unknown): string | undefined {
  try {
    return error instanceof Error ? error.stack : undefined;
  } catch {
    return undefined;
  }
}
