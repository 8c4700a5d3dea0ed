import { setMaxListeners } from 'node:events';
import { isForEngine } from '../engine/named-call.js';
import { EngineFlush } from '../engine/flush.js';
import type { Relay } from '../engine/relay.js';
import type { Sender } from '../engine/sender.js';
import { Transaction } from '../engine/transactions.js';
import { LinkedSet } from '../list/queue.js';
import { type ListRunner, type Outcome, ParallelTurn, TaskList } from '../list/task-list.js';
import type { BackgroundTask, TaskState } from '../task/background-task.js';
import { type TaskCaller, taskCaller } from '../task/call.js';
import { OnErrorCall, currentWork, runOutside } from '../task/current-task.js';
import { messageOf } from '../task/describe.js';
import { BackgroundTasksOverflowError, BackgroundTasksShutdownError, RefusedError } from '../task/errors.js';
import { TaskLog } from '../task/log.js';
import { Task, TasksById } from '../task/task.js';
import { Counters } from './counters.js';
import { RUNNER_DEFAULTS, type ResolvedRunnerOptions } from './options.js';
import { type TransactionHost, TransactionTasks } from './transaction-tasks.js';
import { Turns, inSlices } from './turns.js';

/** Time before the warning about a promise that waits for itself, in ms. */
const SELF_WAIT_MS = 10_000;

/** The number of waiting tasks whose names a log line considers. */
const MAX_NAMED = 1_000;

/** Admits, runs and reports the tasks of an application. */
export class Runner implements ListRunner, TransactionHost {
  readonly options: ResolvedRunnerOptions;
  readonly log: TaskLog;
  readonly counters = new Counters();
  readonly tasksById = new TasksById();
  /** The tasks that wait for the end of their transaction. */
  readonly transactions: TransactionTasks;
  readonly #sender: Sender | undefined;
  readonly #relay: Relay | undefined;
  readonly #closing = new AbortController();
  /** The lists with waiting or running tasks. */
  readonly #lists = new LinkedSet<TaskList>();
  /** The lists whose outcome is known. A turn is one task, so that a long list does not starve the others. */
  readonly #turns: Turns<TaskList | ParallelTurn>;
  /** The tasks and calls of `onError` that requested the shutdown. */
  readonly #shutdownCallers = new Set<BackgroundTask | OnErrorCall>();
  /** The tasks that a shutdown has aborted and whose functions are still running. */
  readonly #abandoned = new Set<Task>();
  #caller: TaskCaller | undefined;
  #check: (() => boolean) | undefined;
  #keepsCurrentTask = false;
  #hasTransactions = false;
  #isClosed = false;

  constructor(options: ResolvedRunnerOptions = RUNNER_DEFAULTS, log = new TaskLog(options.onError), sender?: Sender, relay?: Relay) {
    this.options = options;
    this.log = log;
    // Each open event stream listens to it.
    setMaxListeners(0, this.#closing.signal);
    this.#sender = sender;
    this.#relay = relay;
    this.transactions = new TransactionTasks(this, relay);
    this.#caller = this.#makeCaller();
    this.#turns = new Turns(
      () => this.counters.active < options.concurrency,
      (turn) => this.#takeTurn(turn),
    );
  }

  /** Keeps `currentTask()` set to the end of each task on every version of Node. */
  keepCurrentTask(): void {
    this.#keepsCurrentTask = true;
    this.#caller = this.#makeCaller();
  }

  #makeCaller(): TaskCaller | undefined {
    const caller = taskCaller(this.#keepsCurrentTask, this.options.around);
    return this.#hasTransactions ? Transaction.outside(caller) : caller;
  }

  /** Sets a function to call for each admitted task until it returns true. */
  checkTasks(check: () => boolean): void {
    this.#check = check;
  }

  /** Fires when the application begins to shut down. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** True if `@BackgroundTask()` methods go to an engine. */
  get hasEngine(): boolean {
    return this.#sender?.hasEngine ?? false;
  }

  /** The state of a task of this process, or of the engine. Rejects if the engine cannot be reached. */
  async state(id: string): Promise<TaskState | undefined> {
    // Ask the engine last: a task that moves there during the lookup is then still found.
    return this.tasksById.stateOf(id) ?? (await this.#relay?.find(id)) ?? this.#sender?.find(id);
  }

  /**
   * Adds a task to a list. It runs once the outcome of the list is known.
   *
   * @throws BackgroundTasksOverflowError if `maxPending` tasks wait, BackgroundTasksShutdownError once closed, BackgroundTasksError
   * `BACKGROUND_TASK_INVALID_TASK` for a `@BackgroundTask()` method that cannot be run.
   */
  add(list: TaskList, task: Task): void {
    task.owner = list;
    this.#admit(list, task);
    if (Transaction.isNear) this.#leaveTransactions();
    const joinsTransaction = (task.options.runOn ?? this.options.runOn) === 'success' && this.transactions.add(list, task);
    if (!joinsTransaction) this.join(list, task);
  }

  /** From the first task that is added in a transaction on, calls each task outside the transaction in which it was added. */
  #leaveTransactions(): void {
    if (this.#hasTransactions) return;
    this.#hasTransactions = true;
    this.#caller = this.#makeCaller();
  }

  /** Adds an admitted task to its list. */
  join(list: TaskList, task: Task): void {
    this.#lists.add(list);
    list.push(task, this.#isParallel(task));
    if (list.outcome) this.#schedule(list);
    if (isForEngine(task)) (list.engineFlush ??= new EngineFlush(list, this)).added();
  }

  /** Adds a task to a list that has already run. A refusal is logged, not thrown: nothing awaits the code that adds the task. */
  addLate(list: TaskList, task: Task, isFollowing: boolean): void {
    try {
      this.add(list, task);
      this.log.addedLate(task, isFollowing);
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error;
      this.log.refused(error);
      task.discard();
      task.owner = undefined;
      task.release();
    }
  }

  /** Runs the tasks of a list: those in its queue, and from now on each task as it is added. */
  flush(list: TaskList, outcome: Outcome): void {
    list.settle(outcome);
    if (!list.isEmpty) this.#schedule(list);
    list.resolveEnd();
  }

  /** Makes a list for tasks outside any request. Each starts as soon as it is added. */
  listOutsideRequest(): TaskList {
    const list = new TaskList(this);
    this.flush(list, 'success');
    return list;
  }

  #admit(list: TaskList, task: Task): void {
    const { maxPending, waitUntil } = this.options;
    if (this.#isClosed) throw new BackgroundTasksShutdownError(task.name, 'was refused: the application has shut down');
    if (this.counters.pending >= maxPending) throw new BackgroundTasksOverflowError(task.name, maxPending);
    this.#sender?.prepare(task);
    if (waitUntil) list.passEndTo(waitUntil, (error) => this.log.waitUntilRejected(error));
    this.counters.taskAdmitted();
    if (this.#check?.()) this.#check = undefined;
  }

  /** Requests a turn for the list, and one for each of its parallel tasks. */
  #schedule(list: TaskList): void {
    for (const task of list.takeParallel(this.#isParallel)) this.#turns.request(new ParallelTurn(list, task));
    if (list.isScheduled || list.isEmpty) return;
    list.isScheduled = true;
    this.#turns.request(list);
  }

  readonly #isParallel = (task: Task): task is Task => (task.options.parallel ?? this.options.parallel) && !isForEngine(task);

  #takeTurn(turn: TaskList | ParallelTurn): void {
    if (turn instanceof ParallelTurn) return this.#takeParallelTurn(turn);
    const task = turn.takeNext();
    if (!task) return this.#forgetIfIdle(turn);
    turn.running = task;
    this.#start(turn, task);
  }

  #takeParallelTurn({ list, task }: ParallelTurn): void {
    if (list.startParallel(task)) this.#start(list, task);
    else this.#forgetIfIdle(list);
  }

  #start(list: TaskList, task: Task): void {
    this.counters.taskStarted();
    task.start(task.options.timeout ?? this.options.timeout, list, this.#caller);
  }

  completed(list: TaskList, task: Task): void {
    task.release();
    this.#ended(list, task);
  }

  failed(list: TaskList, task: Task, error: unknown): void {
    if (task.state === 'cancelled') {
      this.log.cancelled(task, error);
      this.#settled(task);
    } else {
      // All tasks that a shutdown has aborted are logged in one line.
      if (!this.#abandoned.has(task)) this.log.failed(task, error);
      this.#settledAfterOnError(task, error);
    }
    this.#ended(list, task);
  }

  #ended(list: TaskList, task: Task): void {
    this.counters.taskEnded();
    this.#shutdownCallerEnded(task);
    const goesOn = !list.endParallel(task) && this.#turnEnded(list);
    this.#forgetIfIdle(list);
    this.#turns.end(list, goesOn);
    this.counters.notify();
  }

  /** Returns true if the list needs another turn. */
  #turnEnded(list: TaskList): boolean {
    list.running = undefined;
    list.isScheduled = !list.isEmpty;
    return list.isScheduled;
  }

  #forgetIfIdle(list: TaskList): void {
    if (list.isIdle) this.#lists.delete(list);
  }

  endedLate(task: Task, how: 'completed' | 'failed', error: unknown): void {
    this.log.endedLate(task, how, error);
    this.#abandonedEnded(task);
  }

  discarded(task: Task, reason: string): void {
    this.counters.taskDiscarded();
    this.log.discarded(task, reason);
    this.#settled(task);
  }

  /** Warns if code awaits the end of a task that itself waits for that code. */
  endedRequested(list: TaskList, task: Task): void {
    const { running } = list;
    this.#warnOfSelfWait(
      'task.ended',
      () => task.state === 'pending',
      () => list.outcome === undefined || (running !== undefined && list.running === running),
    );
  }

  /** Warns if code awaits the end of all tasks while some of them wait for that code. */
  idleRequested(): void {
    const { counters } = this;
    this.#warnOfSelfWait(
      'runner.onIdle()',
      () => !counters.allSettled,
      () => counters.hasHandlers && counters.pending > 0,
    );
  }

  #warnOfSelfWait(promise: string, isUnsettled: () => boolean, mayWaitForCaller: () => boolean): void {
    if (!isUnsettled()) return;
    const caller = currentWork();
    const warn = (): void => {
      const isCalledByTask = caller !== undefined && this.#isAtWork(caller);
      if (isUnsettled() && (isCalledByTask || mayWaitForCaller())) this.log.waitsForItself(promise, SELF_WAIT_MS / 1_000);
    };
    const timer = runOutside(() => setTimeout(warn, SELF_WAIT_MS));
    // In jsdom, a timer is a number.
    if (typeof timer === 'object') timer.unref();
  }

  /** Calls `onError` with the error of a task, and releases the task after that. */
  #settledAfterOnError(task: Task, error: unknown): void {
    const call = new OnErrorCall(this);
    const reported = this.log.callOnError(task, error, call, this.#hasTransactions ? (report) => Transaction.leave(report) : undefined);
    if (!reported) return this.#settled(task);
    this.counters.reportStarted();
    void reported.then(() => {
      this.counters.reportEnded();
      call.caller = undefined;
      this.#shutdownCallerEnded(call);
      this.#settled(task);
    });
  }

  #settled(task: Task): void {
    task.release();
    this.counters.notify();
  }

  flushesBeforeResponse(task: Task): boolean {
    return this.#sender?.flushesBeforeResponse(task) ?? false;
  }

  /**
   * Sends tasks that have left their list to the engine.
   *
   * @throws The error of the engine, once every task that it did not accept has been reported.
   */
  async enqueue(list: TaskList, tasks: readonly Task[]): Promise<void> {
    this.#forgetIfIdle(list);
    for (const task of tasks) task.sent();
    try {
      await this.#sender?.enqueue(tasks);
    } catch (error) {
      this.#notEnqueued(
        tasks.filter(({ state }) => state === 'sending'),
        error,
      );
      throw error;
    } finally {
      this.counters.tasksDropped(tasks.length);
      this.counters.notify();
    }
  }

  #notEnqueued(tasks: readonly Task[], error: unknown): void {
    this.log.failedTogether(tasks, error);
    this.counters.reportStarted();
    void inSlices(tasks, (task) => {
      task.discard();
      this.log.neverStarts(task, messageOf(error));
      this.#settledAfterOnError(task, error);
    }).then(() => {
      this.counters.reportEnded();
      this.counters.notify();
    });
  }

  /** Begins the shutdown: `closing` fires. */
  beginToClose(): void {
    this.#closing.abort();
  }

  /** Registers the task or `onError` call that requests the shutdown. It may await the shutdown, so the shutdown must not wait for it. */
  closeRequested(): void {
    const work = currentWork();
    if (!work || !this.#isAtWork(work) || this.#shutdownCallers.has(work)) return;
    this.#shutdownCallers.add(work);
    this.counters.shutdownCallerFound();
  }

  #isAtWork(work: BackgroundTask | OnErrorCall): boolean {
    if (work instanceof OnErrorCall) return work.caller === this;
    return Task.isTask(work) && work.state === 'active' && work.owner?.tasksById === this.tasksById;
  }

  #shutdownCallerEnded(work: BackgroundTask | OnErrorCall): void {
    if (this.#shutdownCallers.size > 0 && this.#shutdownCallers.delete(work)) this.counters.shutdownCallerEnded();
  }

  /** The names of the tasks that have not ended. Of the waiting ones, only the first thousand are considered. */
  names(): ReadonlySet<string> {
    const names = new Set([...this.transactions.tasks].slice(0, MAX_NAMED).map(({ name }) => name));
    let considered = 0;
    for (const list of this.#lists) {
      for (const task of list.active) names.add(task.name);
      for (const task of list) {
        if (considered++ === MAX_NAMED) return names;
        if (task.state === 'pending') names.add(task.name);
      }
    }
    return names;
  }

  /** Refuses tasks from now on, and stops sending. Returns the lists with waiting or running tasks, which get no more turns. */
  refuseTasks(reason: string): readonly TaskList[] {
    this.#isClosed = true;
    this.#relay?.stop();
    this.#sender?.abort(reason);
    if (this.counters.canClose) return [];
    const lists = [...this.#lists];
    for (const list of lists) this.#lists.delete(list);
    return lists;
  }

  /** Aborts a running task at the end of a shutdown, which logs it. Returns false if the task is not running. */
  abandon(task: Task, error: Error): boolean {
    this.#abandoned.add(task);
    this.counters.taskAbandoned();
    if (task.abort(error)) return true;
    this.#abandonedEnded(task);
    return false;
  }

  /** Drops a waiting task at the end of a shutdown, which logs it. */
  drop(task: Task, error: Error, reason: string): void {
    this.log.neverStarts(task, reason);
    this.counters.tasksDropped(1);
    this.#settledAfterOnError(task, error);
  }

  #abandonedEnded(task: Task): void {
    if (this.#abandoned.delete(task)) this.counters.abandonedTaskEnded();
  }
}
