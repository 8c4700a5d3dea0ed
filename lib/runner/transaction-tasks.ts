import { isForEngine } from '../engine/named-call.js';
import type { OutboxClient } from '../engine/outbox.js';
import type { Relay } from '../engine/relay.js';
import { Transaction, type TransactionRunner, type UncommittedTask } from '../engine/transactions.js';
import type { TaskList } from '../list/task-list.js';
import type { TaskLog } from '../task/log.js';
import type { Task } from '../task/task.js';
import type { Counters } from './counters.js';

/** The part of the runner that the tasks of transactions need. */
export interface TransactionHost {
  readonly log: TaskLog;
  readonly counters: Counters;
  /** Adds an admitted task to its list. */
  join(list: TaskList, task: Task): void;
  discarded(task: Task, reason: string): void;
}

/** The tasks of an application that wait for the end of their transaction. */
export class TransactionTasks implements TransactionRunner {
  readonly #host: TransactionHost;
  readonly #relay: Relay | undefined;
  readonly #uncommitted = new Set<Task>();
  /** The tasks that are saved in the outbox. Their transaction may commit at any time. */
  readonly #saved = new Set<Task>();
  #hasWarnedOfClient = false;

  constructor(host: TransactionHost, relay: Relay | undefined) {
    this.#host = host;
    this.#relay = relay;
  }

  get tasks(): readonly Task[] {
    return [...this.#uncommitted, ...this.#saved];
  }

  /** Adds a task to the transaction that the current code is part of. Returns false if there is none. */
  add(list: TaskList, task: Task): boolean {
    const transaction = Transaction.current(this);
    if (!transaction) {
      if (Transaction.isOver(this)) this.#host.log.addedAfterTransaction(task);
      return false;
    }
    this.#uncommitted.add(task);
    transaction.add(this, { list, task });
    return true;
  }

  async save(uncommitted: readonly UncommittedTask[], client: OutboxClient | undefined): Promise<boolean> {
    // A shutdown may have dropped some tasks.
    const tasks = uncommitted.map(({ task }) => task).filter((task) => isForEngine(task) && this.#uncommitted.has(task));
    if (!this.#relay || tasks.length === 0) return false;
    if (!client) {
      if (!this.#hasWarnedOfClient) this.#host.log.savedWithoutClient();
      this.#hasWarnedOfClient = true;
      return false;
    }
    for (const task of tasks) {
      this.#uncommitted.delete(task);
      this.#saved.add(task);
      task.sent();
    }
    await this.#relay.save(tasks, client);
    return true;
  }

  /** Sends the saved tasks to the engine, and adds the others to their lists. */
  committed(tasks: readonly UncommittedTask[]): void {
    const saved: Task[] = [];
    for (const { list, task } of tasks) {
      if (this.#saved.delete(task)) {
        task.queued();
        saved.push(task);
      } else if (this.#uncommitted.delete(task) && task.state === 'pending') {
        task.markCommitted();
        this.#host.join(list, task);
      }
    }
    if (saved.length > 0) void this.#enqueueSaved(saved);
  }

  /** Discards the tasks of a transaction. */
  rolledBack(tasks: readonly UncommittedTask[]): void {
    for (const { task } of tasks) {
      const isOurs = this.#uncommitted.delete(task) || this.#saved.delete(task);
      if (isOurs && task.discard()) this.#host.discarded(task, 'its transaction was rolled back');
    }
  }

  /**
   * Takes out the tasks that the shutdown loses. Tasks that an outbox saves stay: their transaction may still commit, and another process
   * then sends them.
   */
  takeLost(): readonly Task[] {
    const tasks = [...this.#uncommitted].filter((task) => !(this.#relay && isForEngine(task)));
    for (const task of tasks) this.#uncommitted.delete(task);
    return tasks;
  }

  async #enqueueSaved(saved: readonly Task[]): Promise<void> {
    const { counters } = this.#host;
    await this.#relay?.enqueue(saved);
    counters.tasksDropped(saved.length);
    for (const task of saved) task.release();
    counters.notify();
  }
}
