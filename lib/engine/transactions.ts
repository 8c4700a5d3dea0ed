import { AsyncLocalStorage } from 'node:async_hooks';
import type { TaskList } from '../list/task-list.js';
import { type TaskCaller, callTask } from '../task/call.js';
import { BackgroundTasksError } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { OnceRun } from './once.js';
import type { OutboxClient } from './outbox.js';

/** A task that waits for the end of its transaction, and the list that it will join. */
export interface UncommittedTask {
  readonly list: TaskList;
  readonly task: Task;
}

/** The part of the runner that a transaction needs. */
export interface TransactionRunner {
  /** Saves the tasks for an engine in the transaction of the client. Returns false if there are none. Rejects if they cannot be saved. */
  save(tasks: readonly UncommittedTask[], client: OutboxClient | undefined): Promise<boolean>;
  committed(tasks: readonly UncommittedTask[]): void;
  rolledBack(tasks: readonly UncommittedTask[]): void;
}

/** The library that opens a transaction. */
export interface TransactionSource {
  /** False if the current code has left the transaction, although the transaction is open. */
  isActive(): boolean;
  /** Calls a function outside the transaction. */
  runOutside(func: CallInTransaction): ReturnType<CallInTransaction>;
}

type CallInTransaction = () => PromiseLike<unknown> | undefined;

type Work<Result> = () => Result | PromiseLike<Result>;

/**
 * Calls the work of a transaction, after its BEGIN and before its COMMIT. With an outbox, it needs the client of the transaction, to save
 * the tasks for an engine. A call inside that work is a savepoint. A further call after it is another attempt, and discards the tasks of
 * the previous one.
 */
export interface JoinTransaction {
  <Result>(work: Work<Result>): Promise<Result>;
  <Result>(client: OutboxClient, work: Work<Result>): Promise<Result>;
}

/** The applications in which an adapter opens transactions that tasks follow. */
const withAdapters = new WeakSet<object>();

/** The innermost transaction, open or over, that the current code is part of. Entered only if transactions are used. */
const storage = new AsyncLocalStorage<Transaction | undefined>();

/** One transaction, or one savepoint in it. Tasks that are added during its work wait until it ends. */
export class Transaction {
  readonly #outer = storage.getStore();
  /** The runner that began the transaction, if one did. Only its tasks join. */
  readonly #owner: TransactionRunner | undefined;
  readonly #source: TransactionSource | undefined;
  readonly #once = OnceRun.current;
  /** The transaction that contains this savepoint. */
  #container: Transaction | undefined;
  #isWorkDone = false;
  #refusal: BackgroundTasksError | undefined;
  #end: 'committed' | 'rolledBack' | undefined;
  readonly #tasks = new Map<TransactionRunner, UncommittedTask[]>();

  constructor(owner: TransactionRunner | undefined, source: TransactionSource | undefined) {
    this.#owner = owner;
    this.#source = source;
  }

  /** Registers that an adapter opens transactions that tasks follow, in the application with these modules. */
  static expectedIn(modules: object): void {
    withAdapters.add(modules);
  }

  static areExpectedIn(modules: object): boolean {
    return withAdapters.has(modules);
  }

  /** True if the current code started in a transaction, open or over. */
  static get isNear(): boolean {
    return storage.getStore() !== undefined;
  }

  /** The open transaction that a new task of an application joins. */
  static current(runner: TransactionRunner | undefined): Transaction | undefined {
    let transaction = storage.getStore();
    while (transaction && !(transaction.#isOpen && transaction.#isOf(runner) && transaction.#isActive)) transaction = transaction.#outer;
    return transaction;
  }

  /** The innermost open transaction of a library. */
  static innermostOf(source: TransactionSource | undefined): Transaction | undefined {
    let transaction = storage.getStore();
    while (transaction && !(transaction.#isOpen && transaction.#source === source && transaction.#isActive))
      transaction = transaction.#outer;
    return transaction;
  }

  /** True if the current code started in a transaction of an application, and the transaction is over. */
  static isOver(runner: TransactionRunner): boolean {
    const transaction = storage.getStore();
    return transaction !== undefined && transaction.#isOf(runner) && !transaction.#isOpen;
  }

  /** Makes a caller that calls each task outside the transaction in which it was added. */
  static outside(caller: TaskCaller | undefined): TaskCaller {
    return (task) => {
      return Transaction.leave(() => callTask(task, caller));
    };
  }

  /** Calls a function outside the transaction, if any, that the current code is part of. */
  static leave(func: CallInTransaction): ReturnType<CallInTransaction> {
    const transaction = storage.getStore();
    return transaction ? transaction.#runOutside(func) : func();
  }

  /** Returns the error for a second `join` while the work of this one has not ended. The first call rejects as well, and saves no task. */
  refuseSecondJoin(): BackgroundTasksError {
    return (this.#refusal = new BackgroundTasksError(
      'BACKGROUND_TASK_INVALID_TASK',
      '`join` of `runner.transaction()` was called while the work of another call of it has not ended. Call it once for each transaction, ' +
        'around all of its work; inside that work, call it for a savepoint',
    ));
  }

  /** True if this transaction is open and the current code is part of it. */
  get isAround(): boolean {
    let transaction = storage.getStore();
    while (transaction && transaction !== this) transaction = transaction.#outer;
    return transaction === this && this.#isOpen;
  }

  add(runner: TransactionRunner, task: UncommittedTask): void {
    const others = this.#tasks.get(runner);
    if (others) others.push(task);
    else this.#tasks.set(runner, [task]);
  }

  /** Calls the work of a transaction, and saves its tasks for an engine before the COMMIT. A task that is added after the work is late. */
  async call<Result>(work: Work<Result>, client: OutboxClient | undefined): Promise<Result> {
    if (client) await this.#once?.mark(this, client);
    const result = await this.#run(work);
    // The caller may have rolled the transaction back already.
    if (this.#refusal) throw this.#refusal;
    let isSaved = false;
    for (const [runner, tasks] of this.#tasks) if (await runner.save(tasks, client)) isSaved = true;
    // Postgres reports no error for the COMMIT of a transaction that it has aborted. It does for any other statement.
    if ((this.#tasks.size > 0 || this.#once?.isMarkedIn(this)) && !isSaved) await client?.query('SELECT 1', []);
    return result;
  }

  async #run<Result>(work: Work<Result>): Promise<Result> {
    try {
      return await storage.run(this, work);
    } finally {
      this.#isWorkDone = true;
    }
  }

  /** Starts the tasks, whatever the outcome of their request. */
  commit(): void {
    this.#end = 'committed';
    this.#once?.committed(this);
    for (const [runner, tasks] of this.#takeTasks()) runner.committed(tasks);
  }

  rollBack(): void {
    this.#end = 'rolledBack';
    this.#once?.rolledBack(this);
    for (const [runner, tasks] of this.#takeTasks()) runner.rolledBack(tasks);
  }

  /** Calls the work of a savepoint. */
  async savepoint<Result>(work: Work<Result>): Promise<Result> {
    const savepoint = new Transaction(this.#owner, this.#source);
    savepoint.#container = this;
    try {
      const result = await savepoint.#run(work);
      savepoint.#moveTasksTo(this);
      return result;
    } catch (error) {
      savepoint.rollBack();
      throw error;
    }
  }

  /** Moves the tasks of a released savepoint to its transaction, which may have ended before the work of the savepoint. */
  #moveTasksTo(transaction: Transaction): void {
    for (const [runner, tasks] of this.#takeTasks()) {
      if (transaction.#end) runner[transaction.#end](tasks);
      else for (const task of tasks) transaction.add(runner, task);
    }
  }

  /** True while tasks can join. A savepoint ends with its transaction at the latest. */
  get #isOpen(): boolean {
    return !this.#isWorkDone && (this.#container === undefined || this.#container.#isOpen);
  }

  #isOf(runner: TransactionRunner | undefined): boolean {
    return this.#owner === undefined || this.#owner === runner;
  }

  get #isActive(): boolean {
    return this.#source?.isActive() ?? true;
  }

  #runOutside(func: CallInTransaction): ReturnType<CallInTransaction> {
    let call = func;
    for (const source of this.#sources()) {
      const inner = call;
      call = () => source.runOutside(inner);
    }
    return storage.run(undefined, call);
  }

  /** The libraries of this transaction and of the outer ones. */
  #sources(): Set<TransactionSource> {
    const sources = this.#outer ? this.#outer.#sources() : new Set<TransactionSource>();
    if (this.#source) sources.add(this.#source);
    return sources;
  }

  #takeTasks(): [TransactionRunner, UncommittedTask[]][] {
    const tasks = [...this.#tasks];
    this.#tasks.clear();
    return tasks;
  }
}

/** The end of a transaction. */
interface EndedTransaction<Result> {
  readonly result: Result;
  /** False if `join` was not called. */
  readonly isJoined: boolean;
}

/**
 * Runs a transaction. Its COMMIT or ROLLBACK is over when the promise of `run` is settled.
 *
 * @param owner the runner whose tasks join, or `undefined` if those of all applications do
 */
export async function runTransaction<Result>(
  owner: TransactionRunner | undefined,
  run: (join: JoinTransaction) => Result | PromiseLike<Result>,
  source?: TransactionSource,
): Promise<EndedTransaction<Result>> {
  let attempt: Transaction | undefined;
  let isWorking = false;
  const join = <Value>(...[first, second]: [Work<Value>] | [OutboxClient, Work<Value>]): Promise<Value> => {
    const [client, work] = second ? [first as OutboxClient, second] : [undefined, first as Work<Value>];
    if (attempt?.isAround) return (Transaction.current(owner) ?? attempt).savepoint(work);
    if (isWorking && attempt) return Promise.reject(attempt.refuseSecondJoin());
    attempt?.rollBack();
    attempt = new Transaction(owner, source);
    isWorking = true;
    return attempt.call(work, client).finally(() => (isWorking = false));
  };
  try {
    const result = await run(join);
    attempt?.commit();
    return { result, isJoined: attempt !== undefined };
  } catch (error) {
    attempt?.rollBack();
    throw error;
  }
}
