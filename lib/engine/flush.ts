import type { ListFlush, Outcome, TaskList } from '../list/task-list.js';
import type { Task } from '../task/task.js';
import { isForEngine } from './named-call.js';

/** The part of the runner that a flush to the engine needs. */
export interface FlushRunner {
  /** True if the engine must have a task before the client gets its answer. */
  flushesBeforeResponse(task: Task): boolean;
  /**
   * Sends tasks that have left their list to the engine. Rejects, once every task has been reported, if the engine does not accept them.
   */
  enqueue(list: TaskList, tasks: readonly Task[]): Promise<void>;
}

/** Flushes the tasks of a list to an engine: before the response, or once the outcome of the list is known. */
export class EngineFlush implements ListFlush {
  readonly #list: TaskList;
  readonly #runner: FlushRunner;
  /** False if the list has no waiting task for the engine. */
  #mayHaveTasks = false;
  /** The flushes that a response waits for: those in flight, and those that failed. */
  readonly #unacknowledged = new Set<Promise<void>>();
  #engineIsAway = false;

  constructor(list: TaskList, runner: FlushRunner) {
    this.#list = list;
    this.#runner = runner;
  }

  added(): void {
    this.#mayHaveTasks = true;
    // All tasks that are added synchronously become one flush.
    if (this.#list.outcome) queueMicrotask(() => this.flush());
  }

  flush(): void {
    const { outcome } = this.#list;
    if (!this.#mayHaveTasks || !outcome) return;
    const tasks = this.#take(outcome, () => true);
    this.#mayHaveTasks = false;
    if (tasks.length > 0) this.#enqueue(tasks);
  }

  flushOne(task: Task): boolean {
    if (!isForEngine(task)) return false;
    this.#enqueue([task]);
    return true;
  }

  get unacknowledged(): ReadonlySet<Promise<void>> {
    return new Set(this.#unacknowledged);
  }

  flushBeforeResponse(outcome: Outcome, before: ReadonlySet<Promise<void>> | undefined): Promise<void> | undefined {
    // The client has waited long enough: tasks added after a failed flush are sent after the answer.
    if (outcome === 'failure' && this.#engineIsAway) return undefined;
    const tasks = this.#mayHaveTasks ? this.#take(outcome, (task) => this.#runner.flushesBeforeResponse(task)) : [];
    if (tasks.length > 0) this.#enqueueBeforeResponse(tasks);
    const awaited = [...this.#unacknowledged].filter((flush) => !before?.has(flush));
    return awaited.length > 0 ? Promise.all(awaited).then(() => undefined) : undefined;
  }

  #enqueueBeforeResponse(tasks: readonly Task[]): void {
    const flush = this.#runner.enqueue(this.#list, tasks);
    this.#unacknowledged.add(flush);
    flush.then(
      () => this.#unacknowledged.delete(flush),
      () => (this.#engineIsAway = true),
    );
  }

  #enqueue(tasks: readonly Task[]): void {
    // A failure has been reported already, and nothing waits for this promise.
    this.#runner.enqueue(this.#list, tasks).catch(() => undefined);
  }

  #take(outcome: Outcome, matches: (task: Task) => boolean): Task[] {
    const list = this.#list;
    return list.take((task): task is Task => isForEngine(task) && list.discardReason(task, outcome) === undefined && matches(task));
  }
}
