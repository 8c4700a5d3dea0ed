import { inOneLine } from '../task/describe.js';
import type { RunOn } from '../task/background-task.js';
import type { RunObserver, Task, TaskOwner, TasksById } from '../task/task.js';
import { type Linked, Queue, type Queued } from './queue.js';

/** How a request ended. */
export type Outcome = 'success' | 'failure';

/** The options that decide which tasks of a list run. */
export interface ListRules {
  readonly runOn: RunOn;
  readonly onTaskFailure: 'continue' | 'stop';
}

/** The part of the runner that a list needs. */
export interface ListRunner {
  readonly options: ListRules;
  readonly tasksById: TasksById;
  completed(list: TaskList, task: Task): void;
  failed(list: TaskList, task: Task, error: unknown): void;
  endedLate(task: Task, how: 'completed' | 'failed', error: unknown): void;
  discarded(task: Task, reason: string): void;
  endedRequested(list: TaskList, task: Task): void;
}

/** The tasks of a list that go to an engine. */
export interface ListFlush {
  /** Called when such a task is added to the list. */
  added(): void;
  /** Flushes all of them to the engine once the outcome of the list is known. */
  flush(): void;
  /** Flushes one task. Returns false if it does not go to the engine. */
  flushOne(task: Task): boolean;
  /** The flushes that a response currently waits for. A handler that starts later need not wait for them. */
  readonly unacknowledged: ReadonlySet<Promise<void>>;
  /**
   * Flushes the tasks that the engine must have before the client gets its answer.
   *
   * The promise rejects, once every task has been reported, if the engine does not take all of them in time. Tasks that another handler of
   * this request has flushed meanwhile count, too; flushes in `before` do not.
   */
  flushBeforeResponse(outcome: Outcome, before: ReadonlySet<Promise<void>> | undefined): Promise<void> | undefined;
}

/** The list of one request: a queue of tasks, and the outcome that decides which of them run. */
export class TaskList implements TaskOwner, RunObserver, Queued<TaskList | ParallelTurn>, Linked<TaskList> {
  readonly runner: ListRunner;
  /** The list after this one among those that wait for a turn. */
  next: TaskList | ParallelTurn | undefined;
  older: TaskList | undefined;
  newer: TaskList | undefined;
  isLinked = false;
  /** Undefined until the request is over. */
  outcome: Outcome | undefined;
  /** True while the list waits for a turn, or one of its tasks runs. */
  isScheduled = false;
  /** The running task, except parallel ones. The tasks after it wait for it. */
  running: Task | undefined;
  /** The parallel tasks that wait for turns of their own, or run. */
  #parallel: Set<Task> | undefined;
  /** True if such tasks may be in the queue. */
  #mayQueueParallel = false;
  /** Made with the first task that goes to an engine. */
  engineFlush: ListFlush | undefined;
  #queue = new Queue<Task>();
  #end: EndPromise | undefined;
  /** True once a task has failed and `onTaskFailure` is `'stop'`: no further task runs. */
  #isStopped = false;

  constructor(runner: ListRunner) {
    this.runner = runner;
  }

  /** The waiting tasks. */
  get tasks(): readonly Task[] {
    return [...this].filter(({ state }) => state === 'pending');
  }

  get tasksById(): TasksById {
    return this.runner.tasksById;
  }

  /** True if the queue is empty. Cancelled tasks stay queued until their turn. */
  get isEmpty(): boolean {
    return this.#queue.isEmpty;
  }

  /** True once the outcome is known and all tasks have run. */
  get isDone(): boolean {
    return this.outcome !== undefined && !this.isScheduled && !this.#parallel?.size;
  }

  /** True if no task waits or runs. */
  get isIdle(): boolean {
    return this.isEmpty && !this.running && !this.#parallel?.size;
  }

  /** The running tasks. */
  get active(): readonly Task[] {
    const active = [...(this.#parallel ?? [])].filter(({ state }) => state === 'active');
    return this.running ? [this.running, ...active] : active;
  }

  /** All waiting tasks, including cancelled ones, and the running parallel tasks. */
  *[Symbol.iterator](): Iterator<Task> {
    yield* this.#queue;
    if (this.#parallel) yield* this.#parallel;
  }

  /** Takes the parallel tasks out of the queue. They still belong to the list until they end. */
  takeParallel(isParallel: (task: Task) => task is Task): readonly Task[] {
    if (!this.#mayQueueParallel) return [];
    this.#mayQueueParallel = false;
    const tasks = this.#queue.take(isParallel);
    if (tasks.length > 0) this.#parallel ??= new Set();
    for (const task of tasks) this.#parallel?.add(task);
    return tasks;
  }

  /** Called at the turn of a parallel task. Returns true if it runs now; otherwise it was discarded, or waits for another outcome. */
  startParallel(task: Task): boolean {
    // A shutdown has taken it out at its deadline.
    if (!this.#parallel?.has(task)) return false;
    if (task.state === 'pending' && this.outcome) {
      const reason = this.discardReason(task, this.outcome);
      if (reason === undefined) return true;
      task.discard();
      this.runner.discarded(task, reason);
    }
    this.#parallel?.delete(task);
    if (task.state === 'pending') {
      this.#queue.push(task);
      this.#mayQueueParallel = true;
    }
    return false;
  }

  /** Ends a parallel task. Returns false if the task is not parallel. */
  endParallel(task: Task): boolean {
    return this.#parallel?.delete(task) ?? false;
  }

  push(task: Task, isParallel = false): void {
    this.#queue.push(task);
    if (isParallel) this.#mayQueueParallel = true;
  }

  /** Sets the outcome, and flushes the tasks that go to an engine. */
  settle(outcome: Outcome): void {
    this.outcome = outcome;
    this.engineFlush?.flush();
  }

  /** Takes the next task that runs in process. Tasks that the outcome rules out are discarded on the way. */
  takeNext(): Task | undefined {
    this.engineFlush?.flush();
    // A list whose outcome was withdrawn waits for a new one.
    for (let task = this.outcome && this.#queue.shift(); task; task = this.#queue.shift()) {
      if (task.state === 'cancelled') continue;
      const reason = this.discardReason(task, this.outcome);
      if (reason !== undefined) {
        task.discard();
        this.runner.discarded(task, reason);
      } else if (!this.engineFlush?.flushOne(task)) return task;
    }
    this.isScheduled = false;
    return undefined;
  }

  /** Takes out the waiting tasks that match. */
  take<Taken extends Task>(matches: (task: Task) => task is Taken): Taken[] {
    return this.#queue.take(matches);
  }

  /** Takes out every waiting task. */
  takeAll(): Iterable<Task> {
    const waiting = this.#queue.takeAll();
    for (const task of this.#parallel ?? []) {
      if (task.state === 'pending' && this.#parallel?.delete(task)) waiting.push(task);
    }
    return waiting;
  }

  /** The reason why a task does not run, or undefined if it does. */
  discardReason(task: Task, outcome: Outcome | undefined): string | undefined {
    if (task.isCommitted) return undefined;
    if (this.#isStopped) return 'an earlier task of its request failed';
    const runOn = task.options.runOn ?? this.runner.options.runOn;
    if (task.isOfFailedRun) {
      return runOn === 'success' ? 'it runs on success, and the run of the handler that added it failed and was retried' : undefined;
    }
    if (runOn === 'always' || runOn === outcome) return undefined;
    return `it runs on ${runOn}, and the outcome of its request was ${outcome}`;
  }

  completed(task: Task): void {
    this.runner.completed(this, task);
  }

  failed(task: Task, error: unknown): void {
    if (this.runner.options.onTaskFailure === 'stop' && task.state !== 'cancelled') this.#isStopped = true;
    this.runner.failed(this, task, error);
  }

  endedLate(task: Task, how: 'completed' | 'failed', error?: unknown): void {
    this.runner.endedLate(task, how, error);
  }

  endedRequested(task: Task): void {
    this.runner.endedRequested(this, task);
  }

  cancelled(task: Task, reason: string): void {
    this.runner.discarded(task, `it was cancelled: ${inOneLine(reason)}`);
  }

  /**
   * Passes `waitUntil` a promise for the end of the list. Called before each task is added; a task added after that end gets a new promise.
   */
  passEndTo(waitUntil: (end: Promise<void>) => unknown, onRejected: (error: unknown) => void): void {
    this.#end ??= new EndPromise(waitUntil, onRejected);
    this.#end.taskAdded();
  }

  onTaskSettled(): void {
    this.#end?.taskSettled();
    this.resolveEnd();
  }

  /** Resolves the promise if all tasks have settled. Waits for the outcome, as tasks may be added until then. */
  resolveEnd(): void {
    if (this.outcome && this.#end?.resolveIfSettled()) this.#end = undefined;
  }
}

/** The promise passed to `waitUntil`. */
class EndPromise {
  #openTasks = 0;
  #resolve!: () => void;

  /** Rethrows an error that `waitUntil` throws, so that the request fails. */
  constructor(waitUntil: (end: Promise<void>) => unknown, onRejected: (error: unknown) => void) {
    Promise.resolve(waitUntil(new Promise((resolve) => (this.#resolve = resolve)))).catch(onRejected);
  }

  taskAdded(): void {
    this.#openTasks += 1;
  }

  taskSettled(): void {
    this.#openTasks -= 1;
  }

  /** Resolves the promise. Returns false, and does nothing, if tasks are left. */
  resolveIfSettled(): boolean {
    if (this.#openTasks > 0) return false;
    this.#resolve();
    return true;
  }
}

/** The turn of a parallel task. */
export class ParallelTurn implements Queued<TaskList | ParallelTurn> {
  next: TaskList | ParallelTurn | undefined;
  readonly list: TaskList;
  readonly task: Task;

  constructor(list: TaskList, task: Task) {
    this.list = list;
    this.task = task;
  }
}
