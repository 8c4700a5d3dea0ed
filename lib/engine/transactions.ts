import { AsyncLocalStorage } from 'node:async_hooks';
import type { TaskList } from '../list/task-list.js';
import { type TaskCaller, callTask } from '../task/call.js';
import type { Task } from '../task/task.js';

/** A task that waits for the end of its transaction, and the list that it is to join. */
export interface HeldTask {
  readonly list: TaskList;
  readonly task: Task;
}

/** The runner, as far as a transaction needs it. */
export interface TransactionRunner {
  transactionBegins(): void;
  committed(held: readonly HeldTask[]): void;
  rolledBack(held: readonly HeldTask[]): void;
}

/**
 * Calls the work of a transaction, after its BEGIN and before its COMMIT. A call inside that work is a savepoint; another call after it is another
 * attempt, and discards the tasks of the one before.
 */
export type JoinTransaction = <Result>(work: () => Result | PromiseLike<Result>) => Promise<Result>;

/** The innermost transaction, open or over, that the current code is part of. Entered only where transactions are used. */
const storage = new AsyncLocalStorage<Transaction | undefined>();

/** The tasks of one transaction, or of one savepoint in it. Those that are added while its work is under way are held until it ends. */
export class Transaction {
  readonly #outer = storage.getStore();
  readonly #runner: TransactionRunner;
  #isOpen = true;
  #held: HeldTask[] = [];

  constructor(runner: TransactionRunner) {
    this.#runner = runner;
  }

  /** The open transaction that a task of an application joins if it is added now. */
  static current(runner: TransactionRunner): Transaction | undefined {
    let transaction = storage.getStore();
    while (transaction && !(transaction.#isOpen && transaction.#runner === runner)) transaction = transaction.#outer;
    return transaction;
  }

  /** True if the current code was begun in a transaction of an application that is over. */
  static isOver(runner: TransactionRunner): boolean {
    const transaction = storage.getStore();
    return transaction !== undefined && transaction.#runner === runner && !transaction.#isOpen;
  }

  /** A caller of tasks that calls each outside of the transaction that it was added in. */
  static outside(caller: TaskCaller | undefined): TaskCaller {
    return (task) => (storage.getStore() ? storage.run(undefined, () => callTask(task, caller)) : callTask(task, caller));
  }

  /** True if the current code is part of this transaction, which is open. */
  get isAround(): boolean {
    let transaction = storage.getStore();
    while (transaction && transaction !== this) transaction = transaction.#outer;
    return transaction === this && this.#isOpen;
  }

  hold(list: TaskList, task: Task): void {
    this.#held.push({ list, task });
  }

  /** Calls the work. Once that has settled, a task that is added is late. */
  async call<Result>(work: () => Result | PromiseLike<Result>): Promise<Result> {
    try {
      return await storage.run(this, work);
    } finally {
      this.#isOpen = false;
    }
  }

  /** Has the tasks run, whatever becomes of their request. */
  commit(): void {
    this.#runner.committed(this.#takeHeld());
  }

  rollBack(): void {
    this.#runner.rolledBack(this.#takeHeld());
  }

  /** Leaves the tasks of a savepoint that is kept to the transaction around it. */
  keepIn(transaction: Transaction): void {
    transaction.#held.push(...this.#takeHeld());
  }

  #takeHeld(): readonly HeldTask[] {
    return this.#held.splice(0);
  }
}

/**
 * Runs a transaction. Its COMMIT or ROLLBACK is over when the promise of `run` is settled.
 *
 * @returns The result of `run`, and whether `join` was called.
 */
export async function runTransaction<Result>(
  runner: TransactionRunner,
  run: (join: JoinTransaction) => Result | PromiseLike<Result>,
): Promise<{ readonly result: Result; readonly isJoined: boolean }> {
  let attempt: Transaction | undefined;
  runner.transactionBegins();
  try {
    const result = await run((work) => {
      if (attempt?.isAround) return callSavepoint(runner, Transaction.current(runner)!, work);
      attempt?.rollBack();
      attempt = new Transaction(runner);
      return attempt.call(work);
    });
    attempt?.commit();
    return { result, isJoined: attempt !== undefined };
  } catch (error) {
    attempt?.rollBack();
    throw error;
  }
}

async function callSavepoint<Result>(
  runner: TransactionRunner,
  outer: Transaction,
  work: () => Result | PromiseLike<Result>,
): Promise<Result> {
  const savepoint = new Transaction(runner);
  try {
    const result = await savepoint.call(work);
    savepoint.keepIn(outer);
    return result;
  } catch (error) {
    savepoint.rollBack();
    throw error;
  }
}
