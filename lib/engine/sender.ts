import { randomUUID } from 'node:crypto';
import { traceHeaders } from '../task/channels.js';
import type { Task } from '../task/task.js';
import { deduplicationOf } from './deduplication.js';
import { Delivery } from './delivery.js';
import { engineOptionsOf } from './engine-task.options.js';
import type { EngineEntry } from './engine.js';
import { carriedJson, jsonSnapshot } from './json-snapshot.js';
import { classOf } from './named-methods.js';
import type { NamedTaskOptions } from './named-task.options.js';
import type { NamedTaskProviders } from './named-task-providers.js';
import { type DeliverableTask, NamedTask } from './named-task.js';
import { type ResolvedEngineOptions, needsEngine } from './options.js';

/** The sending half of an application: makes tasks of `@BackgroundTask()` methods ready, for their provider or for the engine. */
export class EngineSender {
  readonly #providers: NamedTaskProviders;
  readonly #options: ResolvedEngineOptions;
  readonly #delivery: Delivery | undefined;

  constructor(providers: NamedTaskProviders, options: ResolvedEngineOptions) {
    this.#providers = providers;
    this.#options = options;
    this.#delivery = options.engine && new Delivery(options.engine, options.flushTimeout);
  }

  get hasEngine(): boolean {
    return this.#delivery !== undefined;
  }

  /**
   * Finds the `@BackgroundTask()` methods; returns whether there are any.
   * @throws BackgroundTasksError `INVALID_TASK` for one that cannot be run, `INVALID_OPTION` for one that asks for what the engine has not,
   * or for what only an engine has.
   */
  discover(): boolean {
    this.#providers.discover();
    const { engine } = this.#options;
    for (const { name, options } of this.#providers.methods) {
      if (engine) engine.check?.(name, engineOptionsOf(options));
      else assertNeedsNoEngine(name, options);
    }
    return this.#providers.methods.length > 0;
  }

  /**
   * Has a named task run on its provider, or go to the engine with its arguments as they are now.
   * @throws BackgroundTasksError `INVALID_TASK` if it has no provider, or an argument is not JSON, `INVALID_OPTION` for `flush` without an engine.
   */
  prepare(task: Task): void {
    if (!(task instanceof NamedTask)) return;
    task.provider = this.#providers.providerOf(task.method);
    if (!this.#delivery) {
      if (task.options.flush) throw needsEngine('flush', `addTask() for the task "${task.name}"`);
      return;
    }
    task.entry = entryOf(task);
    if (this.#options.carry) task.carrying = carryFor(task, this.#options.carry);
  }

  /** Whether the engine is to have a task before the client has its answer. */
  goesFirst(task: NamedTask): boolean {
    return (task.options.flush ?? this.#options.flush) === 'before-response';
  }

  /** Hands tasks over; rejects with a `BackgroundTasksEngineError` if the engine does not take them in time, and with what `carry` throws. */
  async deliver(tasks: readonly DeliverableTask[]): Promise<void> {
    await this.#delivery?.deliver(tasks);
  }

  /** Stops what is being handed over. */
  giveUp(reason: string): void {
    this.#delivery?.giveUp(reason);
  }
}

function assertNeedsNoEngine(name: string, options: NamedTaskOptions): void {
  const [option] = Object.keys({ ...engineOptionsOf(options), ...(options.flush && { flush: options.flush }) });
  if (option !== undefined) throw needsEngine(option, `@BackgroundTask("${name}")`);
}

/** Takes with the entry of a task what the option `carry` has for it; whoever hands the task over hears of a failure. */
function carryFor(task: NamedTask, carry: () => unknown): Promise<void> {
  const carrying = carriedJson(task.name, carry).then((carried) => {
    if (task.entry) task.entry = { ...task.entry, carried };
  });
  carrying.catch(() => undefined);
  return carrying;
}

function entryOf({ method, args, options }: NamedTask): EngineEntry {
  const { deduplication, ...engineOptions } = engineOptionsOf(method.options);
  return {
    id: randomUUID(),
    name: method.name,
    provider: classOf(method),
    args: jsonSnapshot(method.name, args),
    timeout: options.timeout,
    trace: traceHeaders(),
    options: { ...engineOptions, ...(deduplication && { deduplication: deduplicationOf(method.name, deduplication, args) }) },
  };
}
