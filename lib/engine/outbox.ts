import type { EngineEntry } from './engine.js';

/**
 * The connection of one transaction, or a pool. `fromPg`, `fromTypeOrm` and others of `nestjs-background-tasks/outbox` make it from the
 * client of a library.
 */
export interface OutboxClient {
  /**
   * Runs one statement, with the placeholders of the database: `$1` on Postgres, and `?` on MySQL. Parameters are strings.
   *
   * @returns The rows; an empty array for a statement without rows.
   */
  query(sql: string, parameters: readonly unknown[]): Promise<readonly Readonly<Record<string, unknown>>[]>;
}

/**
 * A table in the application's database that stores the tasks of a transaction from its COMMIT until the engine has them, for example
 * `sqlOutbox()` of `nestjs-background-tasks/outbox`.
 *
 * No method may wait for ever: reject if the database is down. Methods with a client may wait for as long as its transaction may.
 */
export interface BackgroundTasksOutbox {
  /** Called at boot, before the first task. If its tables are missing or not writable, it rejects with an error that says what to do. */
  open(): Promise<void>;
  /**
   * Saves entries in the transaction of a client. They are leased to this process, which sends them after the COMMIT. Rethrow an error
   * after which the application retries the transaction, such as a deadlock, as it is. No error may contain the arguments of a task.
   */
  save(client: OutboxClient, entries: readonly EngineEntry[]): Promise<void>;
  /** Leases up to `limit` saved entries without a lease, in the order in which they were saved. A process that died has left them. */
  lease(limit: number): Promise<readonly EngineEntry[]>;
  /** The entry with this id, if it is in the outbox and has not been set aside. */
  find(id: string): Promise<EngineEntry | undefined>;
  /** Removes entries that the engine has. */
  remove(ids: readonly string[]): Promise<void>;
  /** Keeps entries that the engine will never accept, with the reason, for a person to check. They are no longer leased. */
  setAside(ids: readonly string[], reason: string): Promise<void>;
  /**
   * Marks a task with `once` as done, in the transaction of a client. Rejects if another run of the task has committed, and may wait for
   * one that has not.
   */
  markDone(client: OutboxClient, id: string): Promise<void>;
  /** True if a task with `once` has been marked as done, in a committed transaction. */
  isDone(id: string): Promise<boolean>;
  /** Deletes the marks of done tasks that are too old for an engine to run again. */
  forgetDone(): Promise<void>;
  /** Rejects if the tables cannot be read. */
  ping(): Promise<void>;
}
