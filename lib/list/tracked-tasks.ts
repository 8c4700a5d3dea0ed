import { inOneLine } from '../task/describe-error.js';
import { BackgroundTasksError, RefusedError } from '../task/errors.js';
import type { TaskOwner } from '../task/held-task.js';
import type { Task, TaskObserver } from '../task/task.js';
import { Fifo, type Queued } from './fifo.js';
import type { Linked } from './linked-set.js';
import type { ListRunner } from './list-runner.js';
import { PromisedEnd } from './promised-end.js';
import { TaskList } from './task-list.js';

/** How a request ended. */
export type Outcome = 'success' | 'failure';

/** A list that the runner tracks from its first task on, and runs once it is flushed. */
export class TrackedTasks extends TaskList implements TaskObserver, TaskOwner, Queued<TrackedTasks>, Linked<TrackedTasks> {
  behind: TrackedTasks | undefined;
  older: TrackedTasks | undefined;
  newer: TrackedTasks | undefined;
  isLinked = false;
  /** The task whose end is awaited. */
  running: Task | undefined;
  protected readonly runner: ListRunner<TrackedTasks>;
  protected readonly waiting = new Fifo<Task>();
  protected outcome: Outcome | undefined;
  /** Whether the runner has the list: it waits for its turn, or one of its tasks runs. */
  #handedOver = false;
  /** The end that a platform was promised. */
  #promised: PromisedEnd | undefined;
  /** Whether a task has failed after which no other runs. */
  #stopped = false;

  constructor(runner: ListRunner<TrackedTasks>) {
    super();
    this.runner = runner;
  }

  override get tasks(): readonly Task[] {
    return this.waiting.toArray().filter(waits);
  }

  get known(): Map<string, Task> {
    return this.runner.known;
  }

  /** Whether no task waits, nor one that was cancelled: it stays in its place. */
  get isEmpty(): boolean {
    return this.waiting.isEmpty;
  }

  override run(): Promise<void> {
    return Promise.reject(
      new BackgroundTasksError(
        'LIST_OF_A_REQUEST',
        'The list of a request runs by itself once the response is out; `run()` is for a list made by hand with `new BackgroundTasks()`',
      ),
    );
  }

  override add(task: Task, _isFollowing?: boolean): void {
    this.take(task);
  }

  /** Adds a task when everything has run: late code is waited for by nobody, and nobody may catch its errors. */
  protected addLate(task: Task, isFollowing = false): void {
    try {
      this.take(task);
      this.runner.reporter.addedLate(task, isFollowing);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      this.runner.reporter.refused(error);
      task.end('discarded');
      task.owner = undefined;
      task.release();
    }
  }

  /** Logs what a request was refused with, and did not catch: Nest logs no `HttpException`. What an engine did not take has been reported. */
  protected reportRefusal(error: RefusedError): void {
    if (error.code !== 'ENGINE') this.runner.reporter.refused(error);
  }

  protected take(task: Task): void {
    task.owner = this;
    this.runner.admit(task, this);
    this.waiting.push(task);
    if (this.outcome) this.#handOver();
  }

  /** Promises, for a task that is about to be added, the end of the list: once, until it has come. */
  promiseEnd(waitUntil: (end: Promise<void>) => unknown): void {
    this.#promised ??= new PromisedEnd(waitUntil, (error) => this.runner.reporter.waitUntilRejected(error));
    this.#promised.taskAdded();
  }

  over(): void {
    if (!this.#promised) return;
    this.#promised.taskOver();
    this.#keepPromise();
  }

  /** Before the outcome is known, more tasks may come. A late one needs another promise. */
  #keepPromise(): void {
    if (this.outcome && this.#promised?.keep()) this.#promised = undefined;
  }

  /** Whether everything that was flushed has run. */
  protected get done(): boolean {
    return this.outcome !== undefined && !this.#handedOver;
  }

  /** Lets the tasks run: those that are in the list, and from now on each one as it is added. */
  flush(outcome: Outcome): void {
    this.outcome = outcome;
    if (!this.isEmpty) this.#handOver();
    this.#keepPromise();
  }

  #handOver(): void {
    if (this.#handedOver) return;
    this.#handedOver = true;
    this.runner.enqueue(this);
  }

  /** Takes the next task to run off the list. Those that the outcome rules out are discarded on the way. */
  next(): Task | undefined {
    // A list that was flushed may wait for another flush.
    for (let task = this.outcome && this.waiting.shift(); task; task = this.waiting.shift()) {
      if (task.state === 'cancelled') continue;
      const reason = this.ruledOut(task, this.outcome);
      if (!reason) return task;
      task.end('discarded');
      this.runner.discard(task, reason);
    }
    this.#handedOver = false;
    return undefined;
  }

  completed(task: Task): void {
    task.release();
    this.#ended();
  }

  failed(task: Task, error: unknown): void {
    if (this.runner.options.onTaskFailure === 'stop' && task.state !== 'cancelled') this.#stopped = true;
    this.runner.report(task, error);
    this.#ended();
  }

  cancelled(task: Task, reason: string): void {
    this.runner.discard(task, `it was cancelled: ${inOneLine(reason)}`);
  }

  endedLate(task: Task, how: 'completed' | 'failed', error?: unknown): void {
    this.runner.endedLate(task, how, error);
  }

  #ended(): void {
    this.running = undefined;
    this.#handedOver = !this.isEmpty;
    this.runner.ended(this);
  }

  /** Takes every waiting task off the list. */
  clear(): Fifo<Task> {
    return this.waiting.takeAll();
  }

  /** Why a task does not run, if it does not. */
  protected ruledOut(task: Task, outcome: Outcome | undefined): string | undefined {
    if (this.#stopped) return 'an earlier task of its request failed';
    const runOn = task.options.runOn ?? this.runner.options.runOn;
    if (runOn === 'always' || runOn === outcome) return undefined;
    return `it runs on ${runOn}, and the outcome of its request was ${outcome}`;
  }
}

function waits(task: Task): boolean {
  return task.state === 'pending';
}
