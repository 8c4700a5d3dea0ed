import { setImmediate } from 'node:timers';
import { Inject, Injectable, Optional } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationShutdown, OnModuleDestroy } from '@nestjs/common';
import type { BackgroundTask } from './background-task.js';
import { BackgroundTasksOverflowError } from './background-tasks.errors.js';
import { MODULE_OPTIONS, type ResolvedOptions, resolveOptions } from './background-tasks.options.js';
import { BackgroundTasksReporter } from './background-tasks.reporter.js';
import { Fifo } from './fifo.js';
import type { TrackedTasks } from './tracked-tasks.js';

/** Milliseconds of synchronous tasks after which the event loop gets a turn. */
const TIME_SLICE = 10;

/** Executes, tracks and drains the tasks of an application. */
@Injectable()
export class BackgroundTasksRunner implements OnModuleDestroy, BeforeApplicationShutdown, OnApplicationShutdown {
  /** @internal */
  readonly options: ResolvedOptions;
  /** @internal */
  readonly reporter: BackgroundTasksReporter;

  /** The flushed lists that wait for a turn. A turn is one task, so that a long list does not starve the others. */
  readonly #ready = new Fifo<TrackedTasks>();
  readonly #idleListeners: (() => void)[] = [];
  #pending = 0;
  #active = 0;
  #reporting = 0;
  #wakeUp: NodeJS.Immediate | undefined;
  #taking = false;
  #sliceEnd = 0;

  constructor(@Optional() @Inject(MODULE_OPTIONS) options?: unknown) {
    this.options = resolveOptions(options);
    this.reporter = new BackgroundTasksReporter(this.options.onError);
  }

  /** The tasks that run now. */
  get activeCount(): number {
    return this.#active;
  }

  /** The tasks that were added and have not started, those of requests in flight included. */
  get pendingCount(): number {
    return this.#pending;
  }

  /**
   * Resolves once no task is pending or active, and every `onError` is through. A client that has its answer can call it at once: the tasks
   * of its request count from the moment they were added.
   */
  onIdle(): Promise<void> {
    return this.#idle ? Promise.resolve() : new Promise((resolve) => this.#idleListeners.push(resolve));
  }

  onModuleDestroy(): Promise<void> {
    return this.onIdle();
  }

  beforeApplicationShutdown(): Promise<void> {
    return this.onIdle();
  }

  onApplicationShutdown(): Promise<void> {
    return this.onIdle();
  }

  /**
   * Counts a task that is about to be added.
   * @internal
   */
  admit(task: BackgroundTask): void {
    const { maxPending } = this.options;
    if (this.#pending >= maxPending) throw new BackgroundTasksOverflowError(task.name, maxPending);
    this.#pending += 1;
  }

  /**
   * Gives a flushed list its turns, one task each, until it is empty.
   * @internal
   */
  enqueue(list: TrackedTasks): void {
    this.#ready.push(list);
    this.#wakeUp ??= setImmediate(this.#onWakeUp);
  }

  /** @internal */
  discard(task: BackgroundTask, reason: string): void {
    this.#pending -= 1;
    this.reporter.discarded(task, reason);
    this.#notifyIfIdle();
  }

  get #idle(): boolean {
    return this.#pending === 0 && this.#active === 0 && this.#reporting === 0;
  }

  #onWakeUp = (): void => {
    this.#wakeUp = undefined;
    this.#sliceEnd = performance.now() + TIME_SLICE;
    this.#takeTurns();
  };

  #takeTurns(): void {
    if (this.#taking || this.#wakeUp) return;
    this.#taking = true;
    while (this.#active < this.options.concurrency) {
      if (performance.now() > this.#sliceEnd) {
        this.#wakeUp = setImmediate(this.#onWakeUp);
        break;
      }
      const list = this.#ready.shift();
      if (!list) break;
      this.#takeTurn(list);
    }
    this.#taking = false;
  }

  #takeTurn(list: TrackedTasks): void {
    const task = list.next();
    if (!task) return;
    this.#pending -= 1;
    this.#active += 1;
    try {
      const end = task.start(task.options.timeout ?? this.options.timeout, (how, error) => this.reporter.endedLate(task, how, error));
      if (!end) return this.#ended(list);
      end.then(
        () => this.#ended(list),
        (error: unknown) => this.#failed(list, task, error),
      );
    } catch (error) {
      this.#failed(list, task, error);
    }
  }

  #failed(list: TrackedTasks, task: BackgroundTask, error: unknown): void {
    if (this.options.onTaskFailure === 'stop') list.stop();
    this.#reporting += 1;
    void this.reporter.failed(task, error).then(() => {
      this.#reporting -= 1;
      this.#notifyIfIdle();
    });
    this.#ended(list);
  }

  #ended(list: TrackedTasks): void {
    this.#active -= 1;
    this.#ready.push(list);
    this.#takeTurns();
    this.#notifyIfIdle();
  }

  #notifyIfIdle(): void {
    if (this.#idle) for (const resolve of this.#idleListeners.splice(0)) resolve();
  }
}
