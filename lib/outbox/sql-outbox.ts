import { clearTimeout, setTimeout } from 'node:timers';
import type { EngineEntry } from '../engine/engine.js';
import type { BackgroundTasksOutbox, OutboxClient } from '../engine/outbox.js';
import { storable } from '../task/describe.js';
import { BOOLEAN, type Expectations, invalid, milliseconds, validated } from '../task/validation.js';
import { type DatabaseError, OutboxError, readError } from './database-error.js';
import { DIALECTS, type Dialect, type OutboxDialect, type Statement, TABLE_NAME } from './dialects.js';

/** Options of `sqlOutbox()`. */
export interface SqlOutboxOptions {
  /**
   * The name of the table, or `schema.table`. A second table, with the suffix `_done`, is for tasks with `once`. @default
   * 'background_tasks_outbox'
   */
  table?: string | undefined;
  /**
   * Time for which a task is leased to a process, in ms, from when it is saved or leased again. If the process dies, another one leases the
   * task after that time. If the transaction or the engine takes longer, the task is sent twice, which the engine detects by its id.
   * @default 10_000
   */
  lease?: number | undefined;
  /**
   * If true, creates missing tables at boot. In production, put the SQL of `outboxTables()` into a migration instead: the application then
   * needs no privilege to create tables. @default false
   */
  migrate?: boolean | undefined;
  /**
   * Time for which the mark of a done task with `once` is kept, in ms: longer than the engine may run a task again. @default 691_200_000 (8
   * days)
   */
  keepDone?: number | undefined;
}

const DAY = 86_400_000;

const EXPECTATIONS: Expectations<SqlOutboxOptions> = {
  table: {
    expected: 'the name of a table, of letters, digits and underscores, 55 at most, with or without a schema before a dot',
    accepts: (value) => typeof value === 'string' && TABLE_NAME.test(value),
  },
  lease: milliseconds(1_000, 3_600_000),
  migrate: BOOLEAN,
  keepDone: milliseconds(DAY, 365 * DAY),
};

const TABLE = 'background_tasks_outbox';
/** Time to wait for the database. Creating tables may wait for another process that creates them. */
const [SLOW_CALL_MS, SLOW_MIGRATION_MS] = [10_000, 60_000];
/** The number of attempts for a statement that conflicts with another process. */
const ATTEMPTS = 5;
/** The number of marks of done tasks that one statement deletes. */
const MAX_FORGOTTEN = 5_000;

/** The codes of a missing table or schema, a missing column, a missing privilege, and a duplicate key. */
const MISSING_TABLE = ['42P01', '3F000', '1146', '1049'];
const MISSING_COLUMN = ['42703', '1054'];
const MISSING_RIGHT = ['42501', '1142', '1143', '1044'];
const DUPLICATE = ['23505', '1062'];
/** The codes of errors after which a transaction is retried: serialization failure, deadlock, lock timeout. */
const RETRYABLE = ['40001', '40P01', '1213', '1205'];

/**
 * Creates an outbox in the application's database: Postgres from version 12 on, MySQL from 8.0 on, or MariaDB from 10.6 on. It may differ
 * from the database of the engine.
 *
 * @param client a pool, not a connection or a transaction, such as `fromTypeOrm(dataSource)`
 * @example
 * ```ts
 * BackgroundTasksModule.forRootAsync({
 *   inject: [DataSource],
 *   useFactory: (db: DataSource) => ({ engine: bullmqEngine({ connection }), outbox: sqlOutbox(fromTypeOrm(db)) }),
 * });
 * ```
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function sqlOutbox(client: OutboxClient, options: SqlOutboxOptions = {}): BackgroundTasksOutbox {
  if (typeof client !== 'object' || client === null || typeof client.query !== 'function') {
    throw invalid('BACKGROUND_TASK_INVALID_OPTION', 'the first argument of sqlOutbox()', 'a client, such as `fromPg(pool)`', client);
  }
  return new SqlOutbox(client, validated<SqlOutboxOptions>('sqlOutbox()', options, EXPECTATIONS));
}

/**
 * The SQL that creates the tables of `sqlOutbox()`, for a migration: run the statements one after the other. They do not change existing
 * tables.
 *
 * @param table the option `table`
 * @example
 * ```ts
 * async up(queryRunner: QueryRunner) {
 *   for (const sql of outboxTables('postgres')) await queryRunner.query(sql);
 * }
 * ```
 */
export function outboxTables(dialect: OutboxDialect, table: string = TABLE): readonly string[] {
  if (!Object.hasOwn(DIALECTS, dialect)) {
    throw invalid('BACKGROUND_TASK_INVALID_OPTION', 'the first argument of outboxTables()', "'postgres' or 'mysql'", dialect);
  }
  validated('outboxTables()', { table }, EXPECTATIONS);
  return DIALECTS[dialect](table, 0).create;
}

class SqlOutbox implements BackgroundTasksOutbox {
  readonly #client: OutboxClient;
  readonly #table: string;
  readonly #lease: number;
  readonly #migrate: boolean;
  readonly #keepDone: number;
  #dialect: Dialect | undefined;

  constructor(client: OutboxClient, { table = TABLE, lease = 10_000, migrate = false, keepDone = 8 * DAY }: SqlOutboxOptions) {
    this.#client = client;
    this.#table = table;
    this.#lease = lease;
    this.#migrate = migrate;
    this.#keepDone = keepDone;
  }

  async open(): Promise<void> {
    const dialect = await this.#askDialect();
    // Only if a table is missing: even `IF NOT EXISTS` fails without the privilege to create tables, and may wait for open transactions.
    if (this.#migrate && (await this.#lacksTable(dialect))) {
      for (const sql of dialect.migrate) await this.#ask('create its tables', [sql], SLOW_MIGRATION_MS);
    }
    for (const sql of dialect.check) {
      await this.#ask('use its tables', [sql], SLOW_CALL_MS, ({ codes }) => adviceFor(codes, dialect));
    }
    this.#dialect = dialect;
  }

  async save(client: OutboxClient, entries: readonly EngineEntry[]): Promise<void> {
    if (entries.length === 0) return;
    const rows = entries.map((entry) => ({ id: entry.id, entry: JSON.stringify(entry) }));
    await this.#askIn(client, 'save the tasks of a transaction', this.#opened.save(rows));
  }

  async lease(limit: number): Promise<readonly EngineEntry[]> {
    const rows = await this.#opened.lease(limit, (statement) => this.#ask('take over tasks', statement));
    return rows.map(entryOf);
  }

  async find(id: string): Promise<EngineEntry | undefined> {
    const [row] = await this.#ask('look for a task', this.#opened.find(id));
    return row && entryOf(row);
  }

  async remove(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#ask('remove tasks', this.#opened.remove(ids));
  }

  async setAside(ids: readonly string[], reason: string): Promise<void> {
    if (ids.length > 0) await this.#ask('set tasks aside', this.#opened.setAside(ids, storable(reason)));
  }

  async markDone(client: OutboxClient, id: string): Promise<void> {
    await this.#askIn(client, 'mark a task as done', this.#opened.markDone(id), ({ codes }) =>
      isAmong(codes, DUPLICATE) ? `another run has committed that task ${id} is done, so this run is rolled back` : undefined,
    );
  }

  async isDone(id: string): Promise<boolean> {
    return (await this.#ask('look for a done task', this.#opened.isDone(id))).length > 0;
  }

  async forgetDone(): Promise<void> {
    const dialect = this.#opened;
    for (let count = MAX_FORGOTTEN; count === MAX_FORGOTTEN;) {
      const rows = await this.#ask('forget done tasks', dialect.oldDone(this.#keepDone, MAX_FORGOTTEN));
      count = rows.length;
      if (count > 0) await this.#ask('forget done tasks', dialect.removeDone(rows.map((row) => String(row['id']))));
    }
  }

  async ping(): Promise<void> {
    await this.#ask('read its table', [this.#opened.ping]);
  }

  get #opened(): Dialect {
    if (!this.#dialect) throw new OutboxError('The outbox is not open: the application opens it when it starts');
    return this.#dialect;
  }

  /** Asks the database for its version, as clients do not tell the dialect. */
  async #askDialect(): Promise<Dialect> {
    const [row] = await this.#ask('read the version of the database', ['SELECT version() AS version']);
    const version = String(row?.['version']);
    const dialect = dialectOf(version);
    if (!dialect)
      throw new OutboxError(`The outbox needs Postgres 12, MySQL 8.0, MariaDB 10.6, or later versions of these, got ${version}`);
    return DIALECTS[dialect](this.#table, this.#lease);
  }

  async #lacksTable({ check }: Dialect): Promise<boolean> {
    for (const sql of check) {
      try {
        await within(SLOW_CALL_MS, this.#client.query(sql, []));
      } catch (error) {
        if (isAmong(readError(error, { sql, parameters: [] }).codes, MISSING_TABLE)) return true;
      }
    }
    return false;
  }

  /** Sends a statement through the pool. Retries after a deadlock, which a statement of another process may cause. */
  async #ask(
    action: string,
    [sql, ...parameters]: Statement,
    timeout = SLOW_CALL_MS,
    explain?: (error: DatabaseError) => string | undefined,
  ): ReturnType<OutboxClient['query']> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await within(timeout, this.#client.query(sql, parameters));
      } catch (caught) {
        const error = readError(caught, { sql, parameters });
        if (attempt < ATTEMPTS && isAmong(error.codes, RETRYABLE)) continue;
        throw failed(action, error, explain?.(error));
      }
    }
  }

  /** Sends a statement in a transaction of the application. It may wait for as long as the application's own statements may. */
  async #askIn(
    client: OutboxClient,
    action: string,
    [sql, ...parameters]: Statement,
    explain?: (error: DatabaseError) => string | undefined,
  ): Promise<void> {
    try {
      await client.query(sql, parameters);
    } catch (caught) {
      const error = readError(caught, { sql, parameters });
      // The code around the transaction checks for this error, to retry the transaction.
      if (error.error !== undefined && isAmong(error.codes, RETRYABLE)) throw error.error;
      throw failed(action, error, explain?.(error));
    }
  }
}

function failed(action: string, { reason, error }: DatabaseError, explanation: string | undefined): OutboxError {
  return new OutboxError(`The outbox could not ${action}: ${explanation ?? reason}`, error);
}

/** The advice for an error of `open()`; `undefined` if the error has nothing to do with the tables. */
function adviceFor(codes: ReadonlySet<string>, { create, grant }: Dialect): string | undefined {
  const sql = create.map((statement) => `${statement};`).join('\n');
  if (isAmong(codes, MISSING_TABLE)) {
    return `a table is missing; put this into a migration, or pass \`migrate: true\` to have it done at boot:\n${sql}`;
  }
  if (isAmong(codes, MISSING_COLUMN))
    return `a table lacks a column; change it to match this SQL, or choose another name with \`table\`:\n${sql}`;
  if (isAmong(codes, MISSING_RIGHT)) {
    return `the user of the database lacks a right; as the owner of the tables, run:\n${grant};\nIf they are missing, create them first:\n${sql}`;
  }
  return undefined;
}

function dialectOf(version: string): OutboxDialect | undefined {
  const [, postgres] = /^PostgreSQL (\d+)/.exec(version) ?? [];
  if (postgres !== undefined) return Number(postgres) >= 12 ? 'postgres' : undefined;
  const [, major, minor] = /^(\d+)\.(\d+)\./.exec(version) ?? [];
  const isNew = version.includes('MariaDB')
    ? Number(major) > 10 || (Number(major) === 10 && Number(minor) >= 6)
    : Number(major) >= 8 && !version.includes('TiDB');
  return isNew ? 'mysql' : undefined;
}

function isAmong(codes: ReadonlySet<string>, wanted: readonly string[]): boolean {
  return wanted.some((code) => codes.has(code));
}

function entryOf(row: Readonly<Record<string, unknown>>): EngineEntry {
  // Some clients parse JSON already.
  const { entry } = row;
  return (typeof entry === 'string' ? JSON.parse(entry) : entry) as EngineEntry;
}

/** Rejects if the database takes longer than the timeout. */
async function within<Result>(timeout: number, promise: Promise<Result>): Promise<Result> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const deadline = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the database did not answer within ${timeout} ms`)), timeout);
  });
  try {
    return await Promise.race([promise, deadline]);
  } finally {
    clearTimeout(timer);
  }
}
