import type { DeliveringRunner } from '../engine/deliverable-tasks.js';
import type { DeliverableTask, NamedTask } from '../engine/named-task.js';
import type { EngineSender } from '../engine/sender.js';
import { TaskList } from '../list/task-list.js';
import { LinkedSet } from '../list/linked-set.js';
import type { TrackedTasks } from '../list/tracked-tasks.js';
import { type CallThrough, callThrough } from '../task/call-through.js';
import { BackgroundTasksOverflowError, BackgroundTasksShutdownError } from '../task/errors.js';
import { Reporter } from '../task/reporter.js';
import type { Task } from '../task/task.js';
import { Closing } from './closing.js';
import { RUNNER_DEFAULTS, type ResolvedRunnerOptions } from './options.js';
import { Reports } from './reports.js';
import { Turns } from './turns.js';
import { Workload } from './workload.js';

/** Executes and tracks the tasks of an application: what lists know of the runner. */
export class Execution implements DeliveringRunner {
  readonly options: ResolvedRunnerOptions;
  readonly reporter: Reporter;
  readonly work = new Workload();
  readonly known = new Map<string, Task>();
  readonly #shutdown = new AbortController();
  /** The lists that hold tasks, or run one. */
  readonly #lists = new LinkedSet<TrackedTasks>();
  /** The flushed lists. A turn is one task, so that a long list does not starve the others. */
  readonly #turns: Turns<TrackedTasks>;
  readonly #closing: Closing;
  readonly #reports: Reports;
  readonly #sender: EngineSender | undefined;
  #through: CallThrough | undefined;
  #closed = false;

  constructor(options: ResolvedRunnerOptions = RUNNER_DEFAULTS, reporter = new Reporter(options.onError), sender?: EngineSender) {
    this.options = options;
    this.reporter = reporter;
    this.#sender = sender;
    this.#through = callThrough(false, options.around);
    this.#closing = new Closing(this.work, reporter);
    this.#reports = new Reports(this.work, reporter, this.#closing);
    this.#turns = new Turns(
      () => this.work.active < options.concurrency,
      (list) => this.#takeTurn(list),
    );
  }

  /** Has `currentTask()` hold to the end of each task. */
  holdCurrentTask(): void {
    this.#through = callThrough(true, this.options.around);
  }

  /** Calls a function as part of what a list belongs to: what is injected under `Scope.DEFAULT` puts itself in the place of this, to follow it. */
  enter = <Result>(_tasks: TrackedTasks, func: () => Result): Result => func();

  /** Fires when the application begins to shut down. */
  get closing(): AbortSignal {
    return this.#shutdown.signal;
  }

  beginToClose(): void {
    this.#shutdown.abort();
  }

  handlerStarted(): void {
    this.work.handlers += 1;
    TaskList.handlersAtWork += 1;
  }

  handlerSettled(): void {
    this.work.handlers -= 1;
    TaskList.handlersAtWork -= 1;
    this.work.decreased();
  }

  /**
   * @throws BackgroundTasksOverflowError beyond `maxPending`, BackgroundTasksShutdownError once closed, BackgroundTasksError `INVALID_TASK` for a
   * `@BackgroundTask()` method that cannot be run.
   */
  admit(task: Task, list: TrackedTasks): void {
    const { maxPending } = this.options;
    if (this.#closed) throw new BackgroundTasksShutdownError(task.name, 'was refused: the application has shut down');
    if (this.work.pending >= maxPending) throw new BackgroundTasksOverflowError(task.name, maxPending);
    this.#sender?.prepare(task);
    if (this.options.waitUntil) list.promiseEnd(this.options.waitUntil);
    this.work.pending += 1;
    this.#lists.add(list);
  }

  enqueue(list: TrackedTasks): void {
    this.#turns.request(list);
  }

  #takeTurn(list: TrackedTasks): void {
    const task = list.next();
    if (!task) {
      if (list.isEmpty) this.#lists.delete(list);
      return;
    }
    this.work.pending -= 1;
    this.work.active += 1;
    list.running = task;
    task.start(task.options.timeout ?? this.options.timeout, list, this.#through);
  }

  ended(list: TrackedTasks): void {
    this.work.active -= 1;
    if (list.isEmpty) this.#lists.delete(list);
    this.#turns.end(list, !list.isEmpty);
    this.work.decreased();
  }

  report(task: Task, error: unknown): void {
    this.#reports.failed(task, error);
  }

  discard(task: Task, reason: string): void {
    this.#reports.discarded(task, reason);
  }

  /** The tasks that were discarded since the application started. */
  get discarded(): number {
    return this.#reports.discardedCount;
  }

  /** Whether `@BackgroundTask()` methods go to an engine. */
  get hasEngine(): boolean {
    return this.#sender?.hasEngine ?? false;
  }

  goesFirst(task: NamedTask): boolean {
    return this.#sender?.goesFirst(task) ?? false;
  }

  async handOver(tasks: readonly DeliverableTask[], list: TrackedTasks): Promise<void> {
    if (list.isEmpty && !list.running) this.#lists.delete(list);
    for (const task of tasks) task.state = 'delivering';
    try {
      await this.#sender?.deliver(tasks);
    } catch (error) {
      const missing = tasks.filter(({ state }) => state === 'delivering');
      this.#reports.notDelivered(missing, error);
      throw error;
    } finally {
      this.work.pending -= tasks.length;
      this.work.decreased();
    }
  }

  /** Refuses tasks from now on, and gives up those that have not ended, reporting each one. */
  async close(reason: string): Promise<void> {
    this.#closed = true;
    this.#sender?.giveUp(reason);
    if (this.work.isQuiet) return;
    const lists = this.#lists.clear();
    await this.#closing.giveUp(lists, reason, (task, error) => this.#reports.tell(task, error));
  }

  endedLate(task: Task, how: 'completed' | 'failed', error: unknown): void {
    this.reporter.endedLate(task, how, error);
    this.#closing.ended(task);
  }
}
