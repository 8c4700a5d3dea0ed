import { isForEngine } from '../engine/named-call.js';
import { EngineFlush } from '../engine/flush.js';
import type { OutboxClient } from '../engine/outbox.js';
import type { Relay } from '../engine/relay.js';
import type { Sender } from '../engine/sender.js';
import { type HeldTask, Transaction, type TransactionRunner } from '../engine/transactions.js';
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
import { Turns, inSlices } from './turns.js';

/** Time after which a promise that waits for itself is warned of, in ms. */
const SELF_WAIT_MS = 10_000;

/** How many waiting tasks are looked at for the names in a line of the log. */
const MOST_NAMED = 1_000;

/** Admits, runs and reports the tasks of an application. */
export class Runner implements ListRunner, TransactionRunner {
  readonly options: ResolvedRunnerOptions;
  readonly log: TaskLog;
  readonly counters = new Counters();
  readonly tasksById = new TasksById();
  readonly #sender: Sender | undefined;
  readonly #relay: Relay | undefined;
  readonly #closing = new AbortController();
  /** The lists that hold tasks, or run one. */
  readonly #lists = new LinkedSet<TaskList>();
  /** The tasks that wait for the end of their transaction. */
  readonly #held = new Set<Task>();
  /** Those of them that are saved in the outbox: they may be committed at any time. */
  readonly #saved = new Set<Task>();
  /** The lists whose outcome is known. A turn is one task, so that a long list does not starve the others. */
  readonly #turns: Turns<TaskList | ParallelTurn>;
  /** The tasks, and the calls of `onError`, that asked for the shutdown. */
  readonly #closers = new Set<BackgroundTask | OnErrorCall>();
  /** The tasks that a shutdown has aborted, and whose functions have not ended. */
  readonly #abandoned = new Set<Task>();
  #caller: TaskCaller | undefined;
  #check: (() => boolean) | undefined;
  #hasTransactions = false;
  #isClosed = false;

  constructor(options: ResolvedRunnerOptions = RUNNER_DEFAULTS, log = new TaskLog(options.onError), sender?: Sender, relay?: Relay) {
    this.options = options;
    this.log = log;
    this.#sender = sender;
    this.#relay = relay;
    this.#caller = taskCaller(false, options.around);
    this.#turns = new Turns(
      () => this.counters.active < options.concurrency,
      (turn) => this.#takeTurn(turn),
    );
  }

  /** Has `currentTask()` hold to the end of each task on every version of Node. */
  holdCurrentTask(): void {
    this.#caller = taskCaller(true, this.options.around);
  }

  /** Calls a function for each task that is admitted, until it returns true. */
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

  /** The state of a task of this process, or of one that the engine has. Rejects if the engine cannot be asked. */
  async state(id: string): Promise<TaskState | undefined> {
    // In this order: a task that is handed over in between is found by the engine.
    return this.tasksById.stateOf(id) ?? (await this.#relay?.find(id)) ?? this.#sender?.find(id);
  }

  /**
   * Adds a task to a list. It runs once the outcome of the list is known.
   *
   * @throws BackgroundTasksOverflowError beyond `maxPending`, BackgroundTasksShutdownError once closed, BackgroundTasksError `INVALID_TASK` for a
   * `@BackgroundTask()` method that cannot be run.
   */
  add(list: TaskList, task: Task): void {
    task.owner = list;
    this.#admit(list, task);
    if (Transaction.isNear) this.#leaveTransactions();
    const transaction = (task.options.runOn ?? this.options.runOn) === 'success' ? Transaction.current(this) : undefined;
    if (!transaction) {
      if (Transaction.isOver(this)) this.log.addedAfterTransaction(task);
      return this.#join(list, task);
    }
    this.#held.add(task);
    transaction.hold(this, { list, task });
  }

  /** Calls each task outside of the transaction that it was added in, from the first one on that was added in a transaction. */
  #leaveTransactions(): void {
    if (this.#hasTransactions) return;
    this.#hasTransactions = true;
    this.#caller = Transaction.outside(this.#caller);
  }

  #join(list: TaskList, task: Task): void {
    this.#lists.add(list);
    list.push(task, this.#isParallel(task));
    if (list.outcome) this.#schedule(list);
    if (isForEngine(task)) (list.engineFlush ??= new EngineFlush(list, this)).added();
  }

  async save(held: readonly HeldTask[], client: OutboxClient | undefined): Promise<boolean> {
    // A shutdown may have dropped some.
    const tasks = held.map(({ task }) => task).filter((task) => isForEngine(task) && this.#held.has(task));
    if (!this.#relay || tasks.length === 0) return false;
    if (!client) {
      this.log.savedWithoutClient();
      return false;
    }
    for (const task of tasks) {
      this.#held.delete(task);
      this.#saved.add(task);
      task.sent();
    }
    await this.#relay.save(tasks, client);
    return true;
  }

  /** Hands over the tasks that are saved, and has the others join their lists. */
  committed(held: readonly HeldTask[]): void {
    const saved: Task[] = [];
    for (const { list, task } of held) {
      if (this.#saved.delete(task)) {
        task.queued();
        saved.push(task);
      } else if (this.#held.delete(task) && task.state === 'pending') {
        task.markCommitted();
        this.#join(list, task);
      }
    }
    if (saved.length > 0) void this.#handOver(saved);
  }

  async #handOver(saved: readonly Task[]): Promise<void> {
    await this.#relay?.handOver(saved);
    this.counters.tasksDropped(saved.length);
    for (const task of saved) task.release();
    this.counters.notify();
  }

  /** Discards the tasks of a transaction. */
  rolledBack(held: readonly HeldTask[]): void {
    for (const { task } of held) {
      if ((this.#held.delete(task) || this.#saved.delete(task)) && task.discard()) this.discarded(task, 'its transaction was rolled back');
    }
  }

  /** Adds a task to a list that has run already: nobody waits for the code that adds it, and nobody may catch its errors. */
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

  /** Lets the tasks of a list run: those that it holds, and from now on each one as it is added. */
  flush(list: TaskList, outcome: Outcome): void {
    list.settle(outcome);
    if (!list.isEmpty) this.#schedule(list);
    list.keepPromise();
  }

  /** The list of tasks that no request adds. Each starts as soon as it is added. */
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
    if (waitUntil) list.promiseEnd(waitUntil, (error) => this.log.waitUntilRejected(error));
    this.counters.taskAdmitted();
    if (this.#check?.()) this.#check = undefined;
  }

  /** Asks for a turn for the list, and for one for each of its parallel tasks. */
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
      // The tasks that a shutdown has aborted are logged in one line.
      if (!this.#abandoned.has(task)) this.log.failed(task, error);
      this.#settledAfterOnError(task, error);
    }
    this.#ended(list, task);
  }

  #ended(list: TaskList, task: Task): void {
    this.counters.taskEnded();
    this.#closerEnded(task);
    const goesOn = !list.endParallel(task) && this.#turnEnded(list);
    this.#forgetIfIdle(list);
    this.#turns.end(list, goesOn);
    this.counters.notify();
  }

  /** Returns whether the list needs another turn. */
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
    this.#noLongerLingers(task);
  }

  discarded(task: Task, reason: string): void {
    this.counters.taskDiscarded();
    this.log.discarded(task, reason);
    this.#settled(task);
  }

  /** Warns of code that awaits the end of a task which waits for that code. */
  endedRequested(list: TaskList, task: Task): void {
    this.#warnOfSelfWait(
      'task.ended',
      () => task.state === 'pending',
      () => list.outcome === undefined || list.running !== undefined,
    );
  }

  /** Warns of code that awaits the end of all tasks, of which some wait for that code. */
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
    // A number in jsdom.
    if (typeof timer === 'object') timer.unref();
  }

  /** Hands the error of a task to `onError`, and lets go of the task after that. */
  #settledAfterOnError(task: Task, error: unknown): void {
    const call = new OnErrorCall(this);
    const told = this.log.callOnError(task, error, call);
    if (!told) return this.#settled(task);
    this.counters.reportStarted();
    void told.then(() => {
      this.counters.reportEnded();
      call.caller = undefined;
      this.#closerEnded(call);
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
   * Hands tasks that their list has let go of to the engine.
   *
   * @throws The error of the engine, once each task that it did not take has been reported.
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

  /** Takes note of the task, or the call of `onError`, that asks for the shutdown and may wait for it: the shutdown cannot wait for that, too. */
  closeRequested(): void {
    const work = currentWork();
    if (!work || !this.#isAtWork(work) || this.#closers.has(work)) return;
    this.#closers.add(work);
    this.counters.closerFound();
  }

  #isAtWork(work: BackgroundTask | OnErrorCall): boolean {
    if (work instanceof OnErrorCall) return work.caller === this;
    return Task.isTask(work) && work.state === 'active' && work.owner?.tasksById === this.tasksById;
  }

  #closerEnded(work: BackgroundTask | OnErrorCall): void {
    if (this.#closers.size > 0 && this.#closers.delete(work)) this.counters.closerEnded();
  }

  /** The names of the tasks that have not ended; of those that wait, the first thousand are looked at. */
  names(): ReadonlySet<string> {
    const names = new Set([...this.#held, ...this.#saved].slice(0, MOST_NAMED).map(({ name }) => name));
    let looked = 0;
    for (const list of this.#lists) {
      for (const task of list.active) names.add(task.name);
      for (const task of list) {
        if (looked++ === MOST_NAMED) return names;
        if (task.state === 'pending') names.add(task.name);
      }
    }
    return names;
  }

  /** Takes out the tasks that wait for the end of their transaction: nobody would run them after it. */
  takeHeld(): readonly Task[] {
    const held = [...this.#held];
    this.#held.clear();
    return held;
  }

  /** Refuses tasks from now on, and stops sending. Returns the lists that hold tasks, or run one; they get no more turns. */
  refuseTasks(reason: string): readonly TaskList[] {
    this.#isClosed = true;
    this.#relay?.stop();
    this.#sender?.abort(reason);
    if (this.counters.canClose) return [];
    const lists = [...this.#lists];
    for (const list of lists) this.#lists.delete(list);
    return lists;
  }

  /** Aborts a running task at the end of a shutdown, which logs it. Returns false if it does not run. */
  abandon(task: Task, error: Error): boolean {
    this.#abandoned.add(task);
    this.counters.taskLingers();
    if (task.abort(error)) return true;
    this.#noLongerLingers(task);
    return false;
  }

  /** Drops a waiting task at the end of a shutdown, which logs it. */
  drop(task: Task, error: Error, reason: string): void {
    this.log.neverStarts(task, reason);
    this.counters.tasksDropped(1);
    this.#settledAfterOnError(task, error);
  }

  #noLongerLingers(task: Task): void {
    if (this.#abandoned.delete(task)) this.counters.lingeringTaskEnded();
  }
}
