import { randomUUID } from 'node:crypto';
import { Inject, Injectable, Optional } from '@nestjs/common';
import type { BackgroundTask } from '../background-task.js';
import { traceHeaders } from '../background-tasks.diagnostics.js';
import type { EngineEntry } from '../background-tasks.engine.js';
import { BackgroundTasksError } from '../background-tasks.errors.js';
import { MODULE_OPTIONS, type ResolvedOptions, resolveOptions } from '../background-tasks.options.js';
import { EngineDelivery } from './engine-delivery.js';
import { jsonSnapshot } from './json-snapshot.js';
import type { NamedMethod } from './named-methods.js';
import { engineOptionsOf } from './named-task.options.js';
import { NamedTasks, classOf } from './named-tasks.js';

/** The sending half of an application: makes tasks of `@BackgroundTask()` methods ready, for their provider or for the engine. */
@Injectable()
export class EngineTasks {
  readonly #options: ResolvedOptions;
  readonly #delivery: EngineDelivery | undefined;

  constructor(
    private readonly namedTasks: NamedTasks,
    @Optional() @Inject(MODULE_OPTIONS) options?: unknown,
  ) {
    this.#options = resolveOptions(options);
    const { engine, flushTimeout } = this.#options;
    this.#delivery = engine && new EngineDelivery(engine, flushTimeout);
  }

  /**
   * Finds the `@BackgroundTask()` methods.
   * @throws BackgroundTasksError `INVALID_TASK` for one that cannot be run, `INVALID_OPTION` for one that asks for what only an engine has.
   */
  discover(): void {
    this.namedTasks.discover();
    if (this.#options.engine) return;
    for (const { name, options } of this.namedTasks.methods) {
      const [option] = Object.keys(engineOptionsOf(options));
      if (option === undefined) continue;
      throw new BackgroundTasksError(
        'INVALID_OPTION',
        `The option \`${option}\` of @BackgroundTask("${name}") needs an engine, as it is a promise that must outlive the process: ` +
          'configure `engine` in BackgroundTasksModule.forRoot(), or leave the option out',
      );
    }
  }

  /**
   * Has a named task run on its provider, or go to the engine with its arguments as they are now.
   * @throws BackgroundTasksError `INVALID_TASK` if it has no provider, or an argument is not JSON.
   */
  prepare(task: BackgroundTask): void {
    const { named } = task;
    if (!named) return;
    named.host = this.namedTasks.hostOf(named.method);
    if (this.#delivery) named.entry = entryOf(task, named.method);
  }

  /** Whether the engine is to have the task before the client has its answer. */
  goesFirst(task: BackgroundTask): boolean {
    return task.named?.entry !== undefined && (task.options.flush ?? this.#options.flush) === 'before-response';
  }

  /** Hands tasks over; rejects with a `BackgroundTasksEngineError` if the engine does not take them in time. */
  async deliver(tasks: readonly BackgroundTask[]): Promise<void> {
    await this.#delivery?.deliver(tasks.map(({ named }) => named?.entry).filter((entry) => entry !== undefined));
  }

  /** Stops what is being handed over. */
  giveUp(reason: string): void {
    this.#delivery?.giveUp(reason);
  }
}

function entryOf(task: BackgroundTask, method: NamedMethod): EngineEntry {
  return {
    id: randomUUID(),
    name: method.name,
    provider: classOf(method),
    args: jsonSnapshot(method.name, task.args),
    timeout: task.options.timeout,
    trace: traceHeaders(),
    options: engineOptionsOf(method.options),
  };
}
