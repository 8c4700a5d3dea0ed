import { Inject, Injectable, Optional } from '@nestjs/common';
import type { BackgroundTask } from './background-task.js';
import { publishDiscard } from './background-tasks.diagnostics.js';
import { BackgroundTasksOverflowError, BackgroundTasksShutdownError } from './background-tasks.errors.js';
import { MODULE_OPTIONS, type ResolvedOptions, resolveOptions } from './background-tasks.options.js';
import { BackgroundTasksReporter } from './background-tasks.reporter.js';
import { messageOf } from './describe-error.js';
import { EngineTasks } from './engine/engine-tasks.js';
import type { TrackedTasks } from './tracked-tasks.js';
import { Turns } from './turns.js';
import { Workload } from './workload.js';

/** Executes and tracks the tasks of an application. */
@Injectable()
export class BackgroundTasksRunner {
  /** @internal */
  readonly options: ResolvedOptions;
  /** @internal */
  readonly reporter: BackgroundTasksReporter;

  /** The lists that hold tasks, or run one. */
  readonly #lists = new Set<TrackedTasks>();
  /** The flushed lists. A turn is one task, so that a long list does not starve the others. */
  readonly #turns: Turns<TrackedTasks>;
  readonly #work = new Workload();
  readonly #givenUp = new Set<BackgroundTask>();
  #discarded = 0;
  #closed = false;

  /** @internal */
  @Optional()
  @Inject(EngineTasks)
  readonly engineTasks: EngineTasks | undefined;

  constructor(@Optional() @Inject(MODULE_OPTIONS) options?: unknown) {
    this.options = resolveOptions(options);
    this.reporter = new BackgroundTasksReporter(this.options.onError);
    this.#turns = new Turns(
      () => this.#work.active < this.options.concurrency,
      (list) => this.#takeTurn(list),
    );
  }

  /** The tasks that run now. */
  get activeCount(): number {
    return this.#work.active;
  }

  /** The tasks that were added and have not started, those of requests in flight included. */
  get pendingCount(): number {
    return this.#work.pending;
  }

  /** The tasks that were discarded since the application started, because of the outcome of their request or a failed sibling. */
  get discardedCount(): number {
    return this.#discarded;
  }

  /**
   * Resolves once no task is pending or active, and every `onError` is through. A client that has its answer can call it at once: the tasks
   * of its request count from the moment they were added.
   */
  onIdle(): Promise<void> {
    return this.#work.onIdle();
  }

  /**
   * Whether nothing is at work: no task, and no handler that may add one.
   * @internal
   */
  get quiet(): boolean {
    return this.#work.isQuiet;
  }

  /** @internal */
  onQuiet(): Promise<void> {
    return this.#work.onQuiet();
  }

  /** @internal */
  handlerStarted(): void {
    this.#work.handlers += 1;
  }

  /** @internal */
  handlerSettled(): void {
    this.#work.handlers -= 1;
    this.#work.decreased();
  }

  /**
   * Takes responsibility for a task that is about to be added to a list.
   * @throws BackgroundTasksOverflowError beyond `maxPending`, BackgroundTasksShutdownError once closed, BackgroundTasksError `INVALID_TASK` for a
   * `@BackgroundTask()` method that cannot be run.
   * @internal
   */
  admit(task: BackgroundTask, list: TrackedTasks): void {
    const { maxPending } = this.options;
    if (this.#closed) throw new BackgroundTasksShutdownError(task.name, 'was refused: the application has shut down');
    if (this.#work.pending >= maxPending) throw new BackgroundTasksOverflowError(task.name, maxPending);
    this.engineTasks?.prepare(task);
    this.#work.pending += 1;
    this.#lists.add(list);
  }

  /**
   * Gives a flushed list its turns until it is empty.
   * @internal
   */
  enqueue(list: TrackedTasks): void {
    this.#turns.request(list);
  }

  /**
   * Goes on after a task of the list.
   * @internal
   */
  ended(list: TrackedTasks): void {
    this.#work.active -= 1;
    if (list.isEmpty) this.#lists.delete(list);
    this.#turns.end(list, !list.isEmpty);
    this.#work.decreased();
  }

  /**
   * Logs a task's error and hands it to `onError`.
   * @internal
   */
  report(task: BackgroundTask, error: unknown): void {
    this.#work.reporting += 1;
    void this.reporter.failed(task, error).then(() => {
      this.#work.reporting -= 1;
      this.#work.decreased();
    });
  }

  /**
   * Hands tasks that their list has let go of to the engine; rejects once each is reported if that fails.
   * @internal
   */
  async handOver(tasks: readonly BackgroundTask[], list: TrackedTasks): Promise<void> {
    if (list.isEmpty && !list.running) this.#lists.delete(list);
    try {
      await this.engineTasks?.deliver(tasks);
    } catch (error) {
      for (const task of tasks) {
        publishDiscard(task, messageOf(error));
        this.report(task, error);
      }
      throw error;
    } finally {
      this.#work.pending -= tasks.length;
      this.#work.decreased();
    }
  }

  /**
   * Lets go of a task that its list will not run.
   * @internal
   */
  discard(task: BackgroundTask, reason: string): void {
    this.#work.pending -= 1;
    this.#discarded += 1;
    publishDiscard(task, reason);
    this.reporter.discarded(task, reason);
    this.#work.decreased();
  }

  /**
   * Refuses tasks from now on, and gives up those that have not ended, reporting each one.
   * @internal
   */
  close(reason: string): void {
    this.#closed = true;
    this.engineTasks?.giveUp(reason);
    const lists = [...this.#lists];
    this.#lists.clear();
    for (const task of lists.flatMap((list) => list.clear())) {
      this.#work.pending -= 1;
      publishDiscard(task, reason);
      this.report(task, new BackgroundTasksShutdownError(task.name, `never started: ${reason}`));
    }
    // Only now: the next task of its list would start.
    for (const { running } of lists) {
      if (!running?.giveUp(new BackgroundTasksShutdownError(running.name, `was given up: ${reason}`))) continue;
      this.#givenUp.add(running);
      this.#work.lingering += 1;
    }
  }

  /**
   * Resolves when what `close` gave up has ended after all, and every `onError` is through.
   * @internal
   */
  onGone(): Promise<void> {
    return this.#work.onGone();
  }

  /**
   * Says how the function of a task ended that had been given up.
   * @internal
   */
  endedLate(task: BackgroundTask, how: 'completed' | 'failed', error: unknown): void {
    this.reporter.endedLate(task, how, error);
    if (!this.#givenUp.delete(task)) return;
    this.#work.lingering -= 1;
    this.#work.decreased();
  }

  #takeTurn(list: TrackedTasks): void {
    const task = list.next();
    if (!task) {
      this.#lists.delete(list);
      return;
    }
    this.#work.pending -= 1;
    this.#work.active += 1;
    list.running = task;
    task.start(task.options.timeout ?? this.options.timeout, list);
  }
}
