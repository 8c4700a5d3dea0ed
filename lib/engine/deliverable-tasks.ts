import type { ListRunner } from '../list/list-runner.js';
import { type Outcome, TrackedTasks } from '../list/tracked-tasks.js';
import type { Task } from '../task/task.js';
import { type DeliverableTask, type NamedTask, isForEngine } from './named-task.js';

/** What a list needs of the runner for the tasks that go to the engine. */
export interface DeliveringRunner extends ListRunner<TrackedTasks> {
  /** Whether the engine is to have a task before the client has its answer. */
  goesFirst(task: NamedTask): boolean;
  /** Hands tasks that their list has let go of to the engine; rejects once each is reported if that fails. */
  handOver(tasks: readonly DeliverableTask[], list: TrackedTasks): Promise<void>;
}

/** A tracked list that hands the tasks which go to an engine over to it, in the place of running them. */
export class DeliverableTasks extends TrackedTasks {
  declare protected readonly runner: DeliveringRunner;
  /** Whether tasks may wait that go to the engine. */
  #hasEngineTasks = false;
  /** The hand-overs that a response waits for: those under way, and those that failed. */
  #unacknowledged: Set<Promise<void>> | undefined;
  #engineIsAway = false;

  /** Tasks that no request adds: each starts as soon as it is added. */
  static outsideRequest(runner: DeliveringRunner): DeliverableTasks {
    const tasks = new DeliverableTasks(runner);
    tasks.flush('success');
    return tasks;
  }

  // Only what makes these lists says what runs them.
  constructor(runner: DeliveringRunner) {
    super(runner);
  }

  protected override take(task: Task): void {
    super.take(task);
    if (!isForEngine(task)) return;
    this.#hasEngineTasks = true;
    // All that are added in one go become one flush.
    if (this.outcome) queueMicrotask(() => this.#flushToEngine());
  }

  override flush(outcome: Outcome): void {
    this.outcome = outcome;
    this.#flushToEngine();
    super.flush(outcome);
  }

  /** What the engine had not acknowledged when a handler started: that is not for it to wait for. */
  get unacknowledged(): ReadonlySet<Promise<void>> | undefined {
    return this.#unacknowledged && new Set(this.#unacknowledged);
  }

  /**
   * Hands over what the engine is to have before the client has its answer. Rejects, once each task is reported, if the engine does not take
   * in time what was added since `before`, also if a handler at work beside this one has handed it over.
   */
  flushFirst(outcome: Outcome, before?: ReadonlySet<Promise<void>>): Promise<void> | undefined {
    // The client has waited long enough: what a failure adds goes after the answer.
    if (outcome === 'failure' && this.#engineIsAway) return undefined;
    const tasks = this.#takeForEngine(outcome, (task) => this.runner.goesFirst(task));
    if (tasks.length > 0) this.#handOverFirst(tasks);
    if (!this.#unacknowledged?.size) return undefined;
    const awaited = [...this.#unacknowledged].filter((handOver) => !before?.has(handOver));
    return awaited.length > 0 ? Promise.all(awaited).then(() => undefined) : undefined;
  }

  #handOverFirst(tasks: readonly DeliverableTask[]): void {
    const unacknowledged = (this.#unacknowledged ??= new Set());
    const handOver = this.runner.handOver(tasks, this);
    unacknowledged.add(handOver);
    handOver.then(
      () => unacknowledged.delete(handOver),
      () => (this.#engineIsAway = true),
    );
  }

  #flushToEngine(): void {
    if (!this.#hasEngineTasks || !this.outcome) return;
    const tasks = this.#takeForEngine(this.outcome, () => true);
    this.#hasEngineTasks = false;
    this.#handOverLast(tasks);
  }

  #handOverLast(tasks: readonly DeliverableTask[]): void {
    // A failure has been reported, and nobody waits for it.
    if (tasks.length > 0) this.runner.handOver(tasks, this).catch(() => undefined);
  }

  #takeForEngine(outcome: Outcome | undefined, which: (task: NamedTask) => boolean): DeliverableTask[] {
    if (!this.#hasEngineTasks) return [];
    const goes = (task: Task): task is DeliverableTask => isForEngine(task) && !this.ruledOut(task, outcome) && which(task);
    return this.waiting.take(goes);
  }

  /** The next task to run in process. Those of the engine are handed over on the way. */
  override next(): Task | undefined {
    this.#flushToEngine();
    for (let task = super.next(); ; task = super.next()) {
      if (!task || !isForEngine(task)) return task;
      this.#handOverLast([task]);
    }
  }
}
