import type { BackgroundTask, TaskObserver } from './background-task.js';
import { BackgroundTasks } from './background-tasks.js';
import { BackgroundTasksError } from './background-tasks.errors.js';
import type { BackgroundTasksRunner } from './background-tasks.runner.js';
import { Fifo, type Queued } from './fifo.js';

/** How a request ended. */
export type Outcome = 'success' | 'failure';

/** A list that the runner tracks from its first task on, and runs once it is flushed. */
export class TrackedTasks extends BackgroundTasks implements TaskObserver, Queued<TrackedTasks> {
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

  constructor(runner: BackgroundTasksRunner) {
    super();
    this.runner = runner;
  }

  override get tasks(): readonly BackgroundTask[] {
    return this.#waiting.toArray();
  }

  override run(): Promise<void> {
    return Promise.reject(
      new BackgroundTasksError(
        'LIST_OF_A_REQUEST',
        'The list of a request runs by itself once the response is out; `run()` is for a list made by hand with `new BackgroundTasks()`',
      ),
    );
  }

  protected override add(task: BackgroundTask): void {
    this.runner.admit(task, this);
    this.#waiting.push(task);
    if (this.#outcome) this.#handOver();
  }

  /** Whether everything that was flushed has run. */
  protected get done(): boolean {
    return this.#outcome !== undefined && !this.#handedOver;
  }

  /** Lets the tasks run: those that are in the list, and from now on each one as it is added. */
  flush(outcome: Outcome): void {
    this.#outcome = outcome;
    if (!this.#waiting.isEmpty) this.#handOver();
  }

  #handOver(): void {
    if (this.#handedOver) return;
    this.#handedOver = true;
    this.runner.enqueue(this);
  }

  /** Takes the next task to run off the list. Those that the outcome rules out are discarded on the way. */
  next(): BackgroundTask | undefined {
    for (let task = this.#waiting.shift(); task; task = this.#waiting.shift()) {
      const reason = this.#stopped ? 'an earlier task of its request failed' : this.#ruledOut(task);
      if (!reason) return task;
      this.runner.discard(task, reason);
    }
    this.#handedOver = false;
    return undefined;
  }

  completed(): void {
    this.running = undefined;
    this.runner.ended(this);
  }

  failed(task: BackgroundTask, error: unknown): void {
    this.running = undefined;
    if (this.runner.options.onTaskFailure === 'stop') this.#stopped = true;
    this.runner.report(task, error);
    this.runner.ended(this);
  }

  endedLate(task: BackgroundTask, how: 'completed' | 'failed', error?: unknown): void {
    this.runner.reporter.endedLate(task, how, error);
  }

  /** Takes every waiting task off the list. */
  clear(): BackgroundTask[] {
    const tasks = this.#waiting.toArray();
    while (this.#waiting.shift());
    return tasks;
  }

  #ruledOut(task: BackgroundTask): string | undefined {
    const runOn = task.options.runOn ?? this.runner.options.runOn;
    if (runOn === 'always' || runOn === this.#outcome) return undefined;
    return `it runs on ${runOn}, and the outcome of its request was ${this.#outcome}`;
  }
}
