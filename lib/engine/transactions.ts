import { AsyncLocalStorage } from 'node:async_hooks';
import type { TaskList } from '../list/task-list.js';
import { type TaskCaller, callTask } from '../task/call.js';
import type { Task } from '../task/task.js';
import { OnceRun } from './once.js';
import type { OutboxClient } from './outbox.js';

/** A task that waits for the end of its transaction, and the list that it is to join. */
export interface HeldTask {
  readonly list: TaskList;
  readonly task: Task;
}

/** The runner, as far as a transaction needs it. */
export interface TransactionRunner {
  /** Saves those of the tasks that go to an engine, in the transaction of the client. Returns false if there are none. Rejects if they cannot be saved. */
  save(held: readonly HeldTask[], client: OutboxClient | undefined): Promise<boolean>;
  committed(held: readonly HeldTask[]): void;
  rolledBack(held: readonly HeldTask[]): void;
}

/** The library that opens a transaction, as far as tasks depend on it. */
export interface TransactionSource {
  /** False if the current code has left the transaction, although it is open. */
  isActive(): boolean;
  /** Calls a function outside of the transaction. */
  runOutside(func: CallInTransaction): ReturnType<CallInTransaction>;
}

type CallInTransaction = () => PromiseLike<unknown> | undefined;

type Work<Result> = () => Result | PromiseLike<Result>;

/**
 * Calls the work of a transaction, after its BEGIN and before its COMMIT. With an outbox, it needs the client of the transaction, in which it saves
 * the tasks that go to an engine. A call inside that work is a savepoint. A further call after it is another attempt, and discards the tasks of
 * the one before.
 */
export interface JoinTransaction {
  <Result>(work: Work<Result>): Promise<Result>;
  <Result>(client: OutboxClient, work: Work<Result>): Promise<Result>;
}

/** The applications in which an adapter opens transactions that tasks follow. */
const withAdapters = new WeakSet<object>();

/** The innermost transaction, open or over, that the current code is part of. Entered only where transactions are used. */
const storage = new AsyncLocalStorage<Transaction | undefined>();

/** The tasks of one transaction, or of one savepoint in it. Those that are added while its work is under way are held until it ends. */
export class Transaction {
  readonly #outer = storage.getStore();
  /** The runner whose tasks alone join, if the transaction was begun by it. */
  readonly #owner: TransactionRunner | undefined;
  readonly #source: TransactionSource | undefined;
  readonly #once = OnceRun.current;
  #isOpen = true;
  readonly #held = new Map<TransactionRunner, HeldTask[]>();

  constructor(owner: TransactionRunner | undefined, source: TransactionSource | undefined) {
    this.#owner = owner;
    this.#source = source;
  }

  /** Takes note that an adapter opens transactions that tasks follow, in the application that has these modules. */
  static expectedIn(modules: object): void {
    withAdapters.add(modules);
  }

  static areExpectedIn(modules: object): boolean {
    return withAdapters.has(modules);
  }

  /** True if the current code was begun in a transaction, open or over. */
  static get isNear(): boolean {
    return storage.getStore() !== undefined;
  }

  /** The open transaction that a task of an application joins if it is added now. */
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

  /** True if the current code was begun in a transaction of an application that is over. */
  static isOver(runner: TransactionRunner): boolean {
    const transaction = storage.getStore();
    return transaction !== undefined && transaction.#isOf(runner) && !transaction.#isOpen;
  }

  /** A caller of tasks that calls each outside of the transaction that it was added in. */
  static outside(caller: TaskCaller | undefined): TaskCaller {
    return (task) => {
      const transaction = storage.getStore();
      return transaction ? transaction.#runOutside(() => callTask(task, caller)) : callTask(task, caller);
    };
  }

  /** True if the current code is part of this transaction, which is open. */
  get isAround(): boolean {
    let transaction = storage.getStore();
    while (transaction && transaction !== this) transaction = transaction.#outer;
    return transaction === this && this.#isOpen;
  }

  hold(runner: TransactionRunner, held: HeldTask): void {
    const others = this.#held.get(runner);
    if (others) others.push(held);
    else this.#held.set(runner, [held]);
  }

  /** Calls the work of a transaction, and saves its tasks for an engine before the COMMIT. Once the work has settled, a task that is added is late. */
  async call<Result>(work: Work<Result>, client: OutboxClient | undefined): Promise<Result> {
    if (client) await this.#once?.mark(this, client);
    const result = await this.#run(work);
    let isSaved = false;
    for (const [runner, held] of this.#held) if (await runner.save(held, client)) isSaved = true;
    // Postgres answers the COMMIT of a transaction that it has aborted without an error.
    if (this.#held.size > 0 && !isSaved) await client?.query('SELECT 1', []);
    return result;
  }

  async #run<Result>(work: Work<Result>): Promise<Result> {
    try {
      return await storage.run(this, work);
    } finally {
      this.#isOpen = false;
    }
  }

  /** Starts the tasks, whatever becomes of their request. */
  commit(): void {
    this.#once?.committed(this);
    for (const [runner, held] of this.#takeHeld()) runner.committed(held);
  }

  rollBack(): void {
    this.#once?.rolledBack(this);
    for (const [runner, held] of this.#takeHeld()) runner.rolledBack(held);
  }

  /** Calls the work of a savepoint. */
  async savepoint<Result>(work: Work<Result>): Promise<Result> {
    const savepoint = new Transaction(this.#owner, this.#source);
    try {
      const result = await savepoint.#run(work);
      savepoint.#keepIn(this);
      return result;
    } catch (error) {
      savepoint.rollBack();
      throw error;
    }
  }

  /** Leaves the tasks of a savepoint that is kept to the transaction around it. */
  #keepIn(transaction: Transaction): void {
    for (const [runner, held] of this.#takeHeld()) for (const one of held) transaction.hold(runner, one);
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

  /** The libraries whose transactions are around this one, and its own. */
  #sources(): Set<TransactionSource> {
    const sources = this.#outer ? this.#outer.#sources() : new Set<TransactionSource>();
    if (this.#source) sources.add(this.#source);
    return sources;
  }

  #takeHeld(): [TransactionRunner, HeldTask[]][] {
    const held = [...this.#held];
    this.#held.clear();
    return held;
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
 * @param owner the runner whose tasks alone join, or `undefined` for those of all applications
 */
export async function runTransaction<Result>(
  owner: TransactionRunner | undefined,
  run: (join: JoinTransaction) => Result | PromiseLike<Result>,
  source?: TransactionSource,
): Promise<EndedTransaction<Result>> {
  let attempt: Transaction | undefined;
  const join = <Value>(...[first, second]: [Work<Value>] | [OutboxClient, Work<Value>]): Promise<Value> => {
    const [client, work] = second ? [first as OutboxClient, second] : [undefined, first as Work<Value>];
    if (attempt?.isAround) return (Transaction.current(owner) ?? attempt).savepoint(work);
    attempt?.rollBack();
    attempt = new Transaction(owner, source);
    return attempt.call(work, client);
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
