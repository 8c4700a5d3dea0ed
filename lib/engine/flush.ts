import type { ListFlush, Outcome, TaskList } from '../list/task-list.js';
import type { Task } from '../task/task.js';
import { isForEngine } from './named-call.js';

/** The runner, as far as a flush to the engine needs it. */
export interface FlushRunner {
  /** True if the engine is to have a task before the client has its answer. */
  flushesBeforeResponse(task: Task): boolean;
  /** Hands tasks that their list has let go of to the engine; rejects, once each is reported, if the engine does not take them. */
  enqueue(list: TaskList, tasks: readonly Task[]): Promise<void>;
}

/** The tasks of a list that go to an engine, and when it gets them: before the response, or once the outcome of the list is known. */
export class EngineFlush implements ListFlush {
  readonly #list: TaskList;
  readonly #runner: FlushRunner;
  /** False if no task that goes to the engine waits in the list. */
  #mayHoldTasks = false;
  /** The flushes that a response waits for: those under way, and those that failed. */
  readonly #unacknowledged = new Set<Promise<void>>();
  #engineIsAway = false;

  constructor(list: TaskList, runner: FlushRunner) {
    this.#list = list;
    this.#runner = runner;
  }

  added(): void {
    this.#mayHoldTasks = true;
    // All tasks that are added in one go become one flush.
    if (this.#list.outcome) queueMicrotask(() => this.flush());
  }

  flush(): void {
    const { outcome } = this.#list;
    if (!this.#mayHoldTasks || !outcome) return;
    const tasks = this.#take(outcome, () => true);
    this.#mayHoldTasks = false;
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
    // The client has waited long enough: tasks that a failure adds go after the answer.
    if (outcome === 'failure' && this.#engineIsAway) return undefined;
    const tasks = this.#mayHoldTasks ? this.#take(outcome, (task) => this.#runner.flushesBeforeResponse(task)) : [];
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
    // A failure has been reported, and nobody waits for it.
    this.#runner.enqueue(this.#list, tasks).catch(() => undefined);
  }

  #take(outcome: Outcome, matches: (task: Task) => boolean): Task[] {
    const list = this.#list;
    return list.take((task): task is Task => isForEngine(task) && list.ruledOut(task, outcome) === undefined && matches(task));
  }
}
