import { randomUUID } from 'node:crypto';
import { clearTimeout, setTimeout } from 'node:timers';
import type { TaskState } from '../task/background-task.js';
import { withoutArguments } from '../task/describe.js';
import { traceHeaders } from '../task/diagnostics.js';
import type { Task } from '../task/task.js';
import { Batch, Batcher } from './batcher.js';
import type { EngineEntry, EngineMethodOptions } from './engine.js';
import { carriedJson, jsonSnapshot } from './json.js';
import { type NamedCall, namedCallOf } from './named-call.js';
import { classOf } from './named-methods.js';
import type { NamedProviders } from './named-providers.js';
import {
  type NamedTaskOptions,
  type ResolvedEngineOptions,
  deduplicationOf,
  engineOptionsOf,
  needsEngine,
  needsOutbox,
} from './options.js';

/**
 * The sending side of an application: prepares tasks of `@BackgroundTask()` methods for their provider or for the engine, and sends them.
 */
export class Sender {
  readonly #providers: NamedProviders;
  readonly #options: ResolvedEngineOptions;
  readonly #batcher: Batcher | undefined;
  readonly #inFlight = new Set<Batch>();
  /** The number of tasks that the engine has accepted, by their queues. Counted only for an outbox. */
  readonly #accepted = new Map<string | undefined, number>();

  constructor(providers: NamedProviders, options: ResolvedEngineOptions) {
    this.#providers = providers;
    this.#options = options;
    this.#batcher = options.engine && new Batcher(options.engine);
  }

  /** The number of tasks that the engine has accepted for a queue; `undefined` is the engine's own queue. */
  acceptedFor(queue: string | undefined): number {
    return this.#accepted.get(queue) ?? 0;
  }

  /** True if tasks go to several queues of the engine, of which one may refuse tasks while others do not. */
  get hasSeveralQueues(): boolean {
    return new Set(this.#providers.methods.map(({ options }) => options.queue)).size > 1;
  }

  get hasEngine(): boolean {
    return this.#batcher !== undefined;
  }

  /**
   * Finds the `@BackgroundTask()` methods. Returns false if there are none.
   *
   * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` for a method that cannot be run, `BACKGROUND_TASK_INVALID_OPTION` for an
   * option that the engine does not support, or that needs an engine.
   */
  discover(): boolean {
    this.#providers.discover();
    const { engine, outbox } = this.#options;
    for (const { name, options } of this.#providers.methods) {
      if (options.once && !outbox) throw needsOutbox(name);
      if (engine) engine.check?.(name, engineOptionsOf(options));
      else assertNeedsNoEngine(name, options);
    }
    return this.#providers.methods.length > 0;
  }

  /**
   * Prepares a named task for its provider, or for the engine with a copy of its arguments.
   *
   * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` if it has no provider, or an argument is not JSON,
   * `BACKGROUND_TASK_INVALID_OPTION` for an option that the engine does not support, or that needs an engine.
   */
  prepare(task: Task): void {
    const call = namedCallOf(task);
    if (!call) return;
    call.provider = this.#providers.providerOf(call.method);
    if (!this.#batcher) {
      const [option] = Object.keys(call.own);
      if (option !== undefined) throw needsEngine(option, `addTask() for the task "${call.name}"`);
      return;
    }
    const options = { ...engineOptionsOf(call.method.options), ...engineOptionsOf(call.own) };
    // The options of the method were checked at boot.
    if (Object.keys(call.own).length > 0) this.#options.engine?.check?.(call.name, options);
    call.entry = entryOf(task, call, options);
    if (this.#options.carry) call.carrying = carryFor(call, this.#options.carry);
  }

  /** The state of a task that the engine has. */
  async find(id: string): Promise<TaskState | undefined> {
    return this.#options.engine?.find?.(id);
  }

  /** True if the engine must have a task before the client gets its answer. */
  flushesBeforeResponse(task: Task): boolean {
    return (namedCallOf(task)?.flush ?? this.#options.flush) === 'before-response';
  }

  /**
   * Sends tasks to the engine, as one batch.
   *
   * @throws BackgroundTasksEngineError if the engine does not accept all of them in time, or the batch is aborted; the error of `carry`.
   */
  async enqueue(tasks: readonly Task[]): Promise<void> {
    if (!this.#batcher) return;
    const { flushTimeout, outbox } = this.#options;
    // A task has no entry any more once it is accepted.
    const queues = outbox ? tasks.map(queueOf) : [];
    const batch = new Batch(tasks);
    this.#inFlight.add(batch);
    const timer = setTimeout(() => batch.abort(`did not get to the engine within the flushTimeout of ${flushTimeout} ms`), flushTimeout);
    try {
      const carrying = carryingOf(tasks);
      if (carrying.length > 0) await Promise.race([Promise.all(carrying), batch.end]);
      this.#batcher.enqueue(batch);
      await batch.end;
      this.#count(queues);
    } finally {
      clearTimeout(timer);
      this.#inFlight.delete(batch);
    }
  }

  /** Resolves when tasks have the result of the option `carry`. Rejects with its error, or if it takes longer than the `flushTimeout`. */
  async carried(tasks: readonly Task[]): Promise<void> {
    const carrying = carryingOf(tasks);
    if (carrying.length === 0) return;
    const { flushTimeout } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`\`carry\` took longer than the flushTimeout of ${flushTimeout} ms`)), flushTimeout);
    });
    try {
      await Promise.race([Promise.all(carrying), deadline]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Sends entries of an outbox, in one call without retries. */
  async enqueueEntries(entries: readonly EngineEntry[], closing: AbortSignal): Promise<void> {
    const { engine, flushTimeout } = this.#options;
    const signal = AbortSignal.any([closing, AbortSignal.timeout(flushTimeout)]);
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error(`the engine did not answer within the flushTimeout of ${flushTimeout} ms`)));
    });
    // If the engine throws synchronously, nothing awaits this promise, and its later rejection would be unhandled.
    aborted.catch(() => undefined);
    try {
      await Promise.race([engine?.enqueue(entries, signal), aborted]);
      this.#count(entries.map(({ queue }) => queue));
    } catch (error) {
      throw withoutArguments(error);
    }
  }

  #count(queues: readonly (string | undefined)[]): void {
    for (const queue of queues) this.#accepted.set(queue, this.acceptedFor(queue) + 1);
  }

  /** Aborts the batches in flight. */
  abort(reason: string): void {
    for (const batch of this.#inFlight) batch.abort(`did not get to the engine: ${reason}`);
  }
}

function carryingOf(tasks: readonly Task[]): Promise<void>[] {
  return tasks.map((task) => namedCallOf(task)?.carrying).filter((carrying) => carrying !== undefined);
}

/** The queue of a task that goes to the engine; `undefined` is the engine's own queue. */
export function queueOf(task: Task): string | undefined {
  return namedCallOf(task)?.entry?.queue;
}

function assertNeedsNoEngine(name: string, options: NamedTaskOptions): void {
  const [option] = Object.keys({ ...engineOptionsOf(options), ...(options.flush && { flush: options.flush }) });
  if (option !== undefined) throw needsEngine(option, `@BackgroundTask("${name}")`);
}

/** Adds the result of the option `carry` to the entry. The code that sends the task awaits `carrying`, and gets its error. */
function carryFor(call: NamedCall, carry: () => unknown): Promise<void> {
  const carrying = carriedJson(call.name, carry).then((carried) => {
    if (call.entry) call.entry = { ...call.entry, carried };
  });
  carrying.catch(() => undefined);
  return carrying;
}

function entryOf({ args, options }: Task, { method }: NamedCall, merged: EngineMethodOptions): EngineEntry {
  const { deduplication, queue, ...engineOptions } = merged;
  return {
    id: randomUUID(),
    name: method.name,
    provider: classOf(method),
    queue,
    args: jsonSnapshot(method.name, args),
    timeout: options.timeout,
    trace: traceHeaders(),
    options: { ...engineOptions, ...(deduplication && { deduplication: deduplicationOf(method.name, deduplication, args) }) },
  };
}
