import type { EngineEntry } from './engine.js';

/**
 * The connection of one transaction, or a pool. `fromPg`, `fromTypeOrm` and others of `nestjs-background-tasks/outbox` make it of what a library
 * gives.
 */
export interface OutboxClient {
  /**
   * Runs one statement, with the placeholders of the database: `$1` on Postgres, and `?` on MySQL. Parameters are text.
   *
   * @returns The rows, none for a statement that returns none.
   */
  query(sql: string, parameters: readonly unknown[]): Promise<readonly Readonly<Record<string, unknown>>[]>;
}

/**
 * A table in the application's database, where the tasks of a transaction are from its COMMIT until the engine has them, such as `sqlOutbox()` of
 * `nestjs-background-tasks/outbox`.
 *
 * No method may wait for ever: a database that is away is an error. Those that are given a client wait for as long as its transaction may.
 */
export interface BackgroundTasksOutbox {
  /** Called at boot, before the first task. Rejects with what to do if its tables are missing or cannot be written. */
  open(): Promise<void>;
  /**
   * Saves entries in the transaction of a client. They are leased to this process for a while, which sends them after the COMMIT. An error that has
   * the transaction tried again, such as a deadlock, is that of the client. No error holds the arguments of a task.
   */
  save(client: OutboxClient, entries: readonly EngineEntry[]): Promise<void>;
  /** Leases up to that many saved entries, in the order in which they were saved, that nobody has a lease of: what a process that died has left. */
  lease(limit: number): Promise<readonly EngineEntry[]>;
  /** The entry that has this id, if it is in the outbox and was not set aside. */
  find(id: string): Promise<EngineEntry | undefined>;
  /** Removes entries that the engine has. */
  remove(ids: readonly string[]): Promise<void>;
  /** Keeps entries that the engine will never take, with the reason, for a person to look at: they are no longer leased. */
  setAside(ids: readonly string[], reason: string): Promise<void>;
  /**
   * Writes down in the transaction of a client that a task with `once` is done. Rejects if another run of it has committed, and may wait for one
   * that has not.
   */
  markDone(client: OutboxClient, id: string): Promise<void>;
  /** True if a task with `once` was marked as done, and that was committed. */
  isDone(id: string): Promise<boolean>;
  /** Forgets done tasks that are older than an engine can run again. */
  forgetDone(): Promise<void>;
  /** Rejects if the tables cannot be read now. */
  ping(): Promise<void>;
}
