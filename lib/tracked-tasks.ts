import type { BackgroundTask } from './background-task.js';
import { TaskList } from './background-tasks.js';
import { BackgroundTasksError, RefusedError } from './background-tasks.errors.js';
import type { BackgroundTasksRunner } from './background-tasks.runner.js';
import { Fifo, type Queued } from './fifo.js';
import type { TaskObserver } from './task-call.js';

/** How a request ended. */
export type Outcome = 'success' | 'failure';

/** A list that the runner tracks from its first task on, and runs once it is flushed. */
export class TrackedTasks extends TaskList implements TaskObserver, Queued<TrackedTasks> {
  behind: TrackedTasks | undefined;
  /** The task whose end is awaited. */
  running: BackgroundTask | undefined;
  protected readonly runner: BackgroundTasksRunner;
  readonly #waiting = new Fifo<BackgroundTask>();
  #outcome: Outcome | undefined;
  /** Whether the runner has the list, be it to wait for its turn or because one of its tasks runs. */
  #handedOver = false;
  /** Whether a task has failed after which no other runs. */
  #stopped = false;
  /** Whether tasks may wait that go to the engine. */
  #hasEngineTasks = false;
  /** The hand-overs that a response waits for: those under way, and those that failed. */
  #unacknowledged: Set<Promise<void>> | undefined;
  #engineIsAway = false;

  constructor(runner: BackgroundTasksRunner) {
    super();
    this.runner = runner;
  }

  override get tasks(): readonly BackgroundTask[] {
    return this.#waiting.toArray();
  }

  /** @internal */
  get isEmpty(): boolean {
    return this.#waiting.isEmpty;
  }

  override run(): Promise<void> {
    return Promise.reject(
      new BackgroundTasksError(
        'LIST_OF_A_REQUEST',
        'The list of a request runs by itself once the response is out; `run()` is for a list made by hand with `new BackgroundTasks()`',
      ),
    );
  }

  /** Tasks that no request adds: each starts as soon as it is added. */
  static outsideRequest(runner: BackgroundTasksRunner): TrackedTasks {
    const tasks = new TrackedTasks(runner);
    tasks.flush('success');
    return tasks;
  }

  override add(task: BackgroundTask): void {
    this.#take(task);
  }

  /** Adds a task when everything has run: late code is waited for by nobody, and nobody may catch its errors. */
  protected addLate(task: BackgroundTask): void {
    try {
      this.#take(task);
      this.runner.reporter.addedLate(task);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      this.runner.reporter.refused(error);
    }
  }

  #take(task: BackgroundTask): void {
    this.runner.admit(task, this);
    this.#waiting.push(task);
    if (task.named?.entry) {
      this.#hasEngineTasks = true;
      // All that are added in one go become one flush.
      if (this.#outcome) queueMicrotask(() => this.#flushToEngine());
    }
    if (this.#outcome) this.#handOver();
  }

  /** Whether everything that was flushed has run. */
  protected get done(): boolean {
    return this.#outcome !== undefined && !this.#handedOver;
  }

  /** Lets the tasks run: those that are in the list, and from now on each one as it is added. */
  flush(outcome: Outcome): void {
    this.#outcome = outcome;
    if (this.isEmpty) return;
    this.#flushToEngine();
    this.#handOver();
  }

  /** What the engine had not acknowledged when a handler started: that is not for it to wait for. */
  get unacknowledged(): ReadonlySet<Promise<void>> | undefined {
    return this.#unacknowledged && new Set(this.#unacknowledged);
  }

  /**
   * Hands over what the engine is to have before the client has its answer. Rejects, once each task is reported, if the engine does not take
   * in time what was added since `before`, be it that a handler at work beside this one has handed it over.
   */
  flushFirst(outcome: Outcome, before?: ReadonlySet<Promise<void>>): Promise<void> | undefined {
    // The client has waited long enough: what a failure adds goes after the answer.
    if (outcome === 'failure' && this.#engineIsAway) return undefined;
    const tasks = this.#takeForEngine(outcome, (task) => this.runner.engineTasks?.goesFirst(task));
    if (tasks.length > 0) this.#handOverFirst(tasks);
    if (!this.#unacknowledged?.size) return undefined;
    const awaited = [...this.#unacknowledged].filter((handOver) => !before?.has(handOver));
    return awaited.length > 0 ? Promise.all(awaited).then(() => undefined) : undefined;
  }

  #handOverFirst(tasks: readonly BackgroundTask[]): void {
    const unacknowledged = (this.#unacknowledged ??= new Set());
    const handOver = this.runner.handOver(tasks, this);
    unacknowledged.add(handOver);
    handOver.then(
      () => unacknowledged.delete(handOver),
      () => (this.#engineIsAway = true),
    );
  }

  #flushToEngine(): void {
    if (!this.#hasEngineTasks) return;
    const tasks = this.#takeForEngine(this.#outcome, () => true);
    this.#hasEngineTasks = false;
    this.#handOverLast(tasks);
  }

  #handOverLast(tasks: readonly BackgroundTask[]): void {
    // A failure has been reported, and nobody waits for it.
    if (tasks.length > 0) this.runner.handOver(tasks, this).catch(() => undefined);
  }

  #takeForEngine(outcome: Outcome | undefined, which: (task: BackgroundTask) => boolean | undefined): BackgroundTask[] {
    if (!this.#hasEngineTasks) return [];
    return this.#waiting.take((task) => task.named?.entry !== undefined && !this.#ruledOut(task, outcome) && which(task) === true);
  }

  #handOver(): void {
    if (this.#handedOver) return;
    this.#handedOver = true;
    this.runner.enqueue(this);
  }

  /** Takes the next task to run off the list. Those that the outcome rules out are discarded on the way, those of the engine handed over. */
  next(): BackgroundTask | undefined {
    this.#flushToEngine();
    for (let task = this.#waiting.shift(); task; task = this.#waiting.shift()) {
      const reason = this.#ruledOut(task, this.#outcome);
      if (reason) this.runner.discard(task, reason);
      else if (task.named?.entry) this.#handOverLast([task]);
      else return task;
    }
    this.#handedOver = false;
    return undefined;
  }

  completed(): void {
    this.#ended();
  }

  failed(task: BackgroundTask, error: unknown): void {
    if (this.runner.options.onTaskFailure === 'stop') this.#stopped = true;
    this.runner.report(task, error);
    this.#ended();
  }

  endedLate(task: BackgroundTask, how: 'completed' | 'failed', error?: unknown): void {
    this.runner.endedLate(task, how, error);
  }

  #ended(): void {
    this.running = undefined;
    this.#handedOver = !this.isEmpty;
    this.runner.ended(this);
  }

  /** Takes every waiting task off the list. */
  clear(): BackgroundTask[] {
    return this.#waiting.clear();
  }

  #ruledOut(task: BackgroundTask, outcome: Outcome | undefined): string | undefined {
    if (this.#stopped) return 'an earlier task of its request failed';
    const runOn = task.options.runOn ?? this.runner.options.runOn;
    if (runOn === 'always' || runOn === outcome) return undefined;
    return `it runs on ${runOn}, and the outcome of its request was ${outcome}`;
  }
}
