import { randomUUID } from 'node:crypto';

/** The databases that an outbox supports. MariaDB counts as MySQL. */
export type OutboxDialect = 'postgres' | 'mysql';

/** A statement with its parameters. */
export type Statement = readonly [sql: string, ...parameters: readonly string[]];

type Rows = readonly Readonly<Record<string, unknown>>[];

/**
 * The statements of an outbox, with quoted names. Columns of results are single lowercase words, which no library renames. No statement
 * contains `?`, `:` or `$` except as a placeholder, as libraries interpret them differently. On Postgres there is at most one `$1`, as Knex
 * and MikroORM use `?`.
 */
export interface Dialect {
  /** Creates the tables if they are missing. */
  readonly create: readonly string[];
  /** Creates the tables, too; in one statement where processes that start at the same time would otherwise conflict. */
  readonly migrate: readonly string[];
  /** Changes nothing, and fails if a table, a column or a privilege is missing. */
  readonly check: readonly string[];
  readonly grant: string;
  readonly ping: string;
  save(entries: readonly { readonly id: string; readonly entry: string }[]): Statement;
  /** Leases up to `limit` entries. Returns them in the order in which they were saved. */
  lease(limit: number, query: (statement: Statement) => Promise<Rows>): Promise<Rows>;
  find(id: string): Statement;
  remove(ids: readonly string[]): Statement;
  setAside(ids: readonly string[], reason: string): Statement;
  markDone(id: string): Statement;
  isDone(id: string): Statement;
  /** Selects the ids of tasks that were done more than `age` ms ago. */
  oldDone(age: number, limit: number): Statement;
  removeDone(ids: readonly string[]): Statement;
}

/** Valid names of a table. They are quoted, and need no escaping. */
export const TABLE_NAME = /^(?:[A-Za-z_]\w{0,54}\.)?[A-Za-z_]\w{0,54}$/;

/** The quoted names of the two tables, and the prefix for the names of indexes. */
function namesOf(table: string, quote: string): { outbox: string; done: string; prefix: string } {
  const quoted = (suffix: string): string => `${table}${suffix}`.replaceAll(/\w+/g, `${quote}$&${quote}`);
  return { outbox: quoted(''), done: quoted('_done'), prefix: table.replace(/^.*\./, '') };
}

/** Postgres from version 12 on. It uses `clock_timestamp()`, as `now()` does not advance during a transaction. */
function postgres(table: string, lease: number): Dialect {
  const { outbox, done, prefix } = namesOf(table, '"');
  const leased = `clock_timestamp() + INTERVAL '${lease} milliseconds'`;
  // The inner `CAST` makes clients that look at the type of a parameter send a string.
  const json = 'CAST(CAST($1 AS text) AS json)';
  const idIsGiven = `id = ANY (ARRAY(SELECT json_array_elements_text(${json})))`;
  const create = [
    `CREATE TABLE IF NOT EXISTS ${outbox} (id text PRIMARY KEY, seq bigint GENERATED ALWAYS AS IDENTITY, entry json NOT NULL, leased_until timestamptz NOT NULL, reason text)`,
    `CREATE INDEX IF NOT EXISTS "${prefix}_due" ON ${outbox} (seq) WHERE reason IS NULL`,
    `CREATE TABLE IF NOT EXISTS ${done} (id text PRIMARY KEY, done_at timestamptz NOT NULL)`,
    `CREATE INDEX IF NOT EXISTS "${prefix}_done_at" ON ${done} (done_at)`,
  ];
  return {
    create,
    // With a lock, as `IF NOT EXISTS` fails if another process creates the table at the same time.
    migrate: [
      `DO $migration$ BEGIN PERFORM pg_advisory_xact_lock(hashtext('${prefix}')); ${create.map((sql) => `${sql};`).join(' ')} END $migration$`,
    ],
    check: [
      `SELECT id, seq, entry, leased_until, reason FROM ${outbox} LIMIT 0`,
      `INSERT INTO ${outbox} (id, entry, leased_until) SELECT id, entry, leased_until FROM ${outbox} WHERE FALSE`,
      `UPDATE ${outbox} SET leased_until = leased_until, reason = reason WHERE FALSE`,
      `DELETE FROM ${outbox} WHERE FALSE`,
      `INSERT INTO ${done} (id, done_at) SELECT id, done_at FROM ${done} WHERE FALSE`,
      `DELETE FROM ${done} WHERE FALSE`,
    ],
    grant: `GRANT SELECT, INSERT, UPDATE, DELETE ON ${outbox}, ${done} TO …`,
    ping: `SELECT id FROM ${outbox} LIMIT 0`,
    save: (entries) => [
      `INSERT INTO ${outbox} (id, entry, leased_until) SELECT given.id, CAST(given.entry AS json), ${leased} ` +
        `FROM json_to_recordset(${json}) AS given (id text, entry text)`,
      JSON.stringify(entries),
    ],
    // Libraries that check the first keyword treat it as a SELECT. It does not wait for rows locked by another process or an open
    // transaction.
    lease: (limit, query) =>
      query([
        `WITH due AS (SELECT id FROM ${outbox} WHERE reason IS NULL AND leased_until <= clock_timestamp() ORDER BY seq LIMIT ${limit} FOR UPDATE SKIP LOCKED), ` +
          `leased AS (UPDATE ${outbox} AS mine SET leased_until = ${leased} FROM due WHERE mine.id = due.id RETURNING mine.seq, mine.entry) ` +
          `SELECT CAST(entry AS text) AS entry FROM leased ORDER BY seq`,
      ]),
    find: (id) => [`SELECT CAST(entry AS text) AS entry FROM ${outbox} WHERE id = $1 AND reason IS NULL`, id],
    remove: (ids) => [`DELETE FROM ${outbox} WHERE ${idIsGiven}`, JSON.stringify(ids)],
    setAside: (ids, reason) => [
      `UPDATE ${outbox} AS mine SET reason = given.reason FROM json_to_recordset(${json}) AS given (id text, reason text) WHERE mine.id = given.id`,
      JSON.stringify(ids.map((id) => ({ id, reason }))),
    ],
    markDone: (id) => [`INSERT INTO ${done} (id, done_at) VALUES ($1, clock_timestamp())`, id],
    isDone: (id) => [`SELECT id FROM ${done} WHERE id = $1`, id],
    oldDone: (age, limit) => [
      `SELECT id FROM ${done} WHERE done_at < statement_timestamp() - INTERVAL '${age} milliseconds' LIMIT ${limit}`,
    ],
    removeDone: (ids) => [`DELETE FROM ${done} WHERE ${idIsGiven}`, JSON.stringify(ids)],
  };
}

/**
 * MySQL from 8.0 on, and MariaDB from 10.6 on. Rows are locked by their id alone, in the order that is given: with another plan, a
 * statement would wait for rows that open transactions of the application have inserted, for 50 s.
 */
function mysql(table: string, lease: number): Dialect {
  const { outbox, done } = namesOf(table, '`');
  const leased = `TIMESTAMPADD(MICROSECOND, ${lease * 1_000}, UTC_TIMESTAMP(3))`;
  const given = "JSON_TABLE(?, '$[*]' COLUMNS (id VARCHAR(64) PATH '$')) AS given";
  const byId = (of: string): string =>
    `${given} STRAIGHT_JOIN ${of} AS mine FORCE INDEX (${of === outbox ? 'id' : '`PRIMARY`'}) ON mine.id = given.id`;
  const id = 'id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL';
  const create = [
    `CREATE TABLE IF NOT EXISTS ${outbox} (seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, ${id}, entry LONGTEXT CHARACTER SET utf8mb4 NOT NULL, ` +
      'lease VARCHAR(64) NULL, leased_until DATETIME(3) NOT NULL, reason TEXT CHARACTER SET utf8mb4 NULL, UNIQUE KEY id (id)) ENGINE = InnoDB',
    `CREATE TABLE IF NOT EXISTS ${done} (${id} PRIMARY KEY, done_at DATETIME(3) NOT NULL, KEY done_at (done_at)) ENGINE = InnoDB`,
  ];
  return {
    create,
    migrate: create,
    check: [
      `SELECT id, seq, entry, lease, leased_until, reason FROM ${outbox} LIMIT 0`,
      `INSERT INTO ${outbox} (id, entry, leased_until) SELECT id, entry, leased_until FROM ${outbox} WHERE 1 = 0`,
      `UPDATE ${outbox} SET lease = lease, leased_until = leased_until, reason = reason WHERE 1 = 0`,
      `DELETE FROM ${outbox} WHERE 1 = 0`,
      `INSERT INTO ${done} (id, done_at) SELECT id, done_at FROM ${done} WHERE 1 = 0`,
      `DELETE FROM ${done} WHERE 1 = 0`,
    ],
    grant: [outbox, done].map((one) => `GRANT SELECT, INSERT, UPDATE, DELETE ON ${one} TO …`).join('; '),
    ping: `SELECT id FROM ${outbox} LIMIT 0`,
    save: (entries) => [
      `INSERT INTO ${outbox} (id, entry, leased_until) SELECT given.id, given.entry, ${leased} ` +
        "FROM JSON_TABLE(?, '$[*]' COLUMNS (id VARCHAR(64) PATH '$.id', entry LONGTEXT PATH '$.entry')) AS given",
      // In ASCII, so that the character sets of the connection and of the database do not matter.
      JSON.stringify(entries.map((one) => ({ id: one.id, entry: inAscii(one.entry) }))),
    ],
    lease: async (limit, query) => {
      for (let tries = 0; tries < MAX_TRIES; tries++) {
        const due = await query([
          `SELECT id FROM ${outbox} WHERE reason IS NULL AND leased_until <= UTC_TIMESTAMP(3) ORDER BY seq LIMIT ${limit}`,
        ]);
        if (due.length === 0) return [];
        const ids = JSON.stringify(due.map((row) => row['id']));
        const token = randomUUID();
        await query([
          `UPDATE ${byId(outbox)} SET mine.lease = ?, mine.leased_until = ${leased} WHERE mine.reason IS NULL AND mine.leased_until <= UTC_TIMESTAMP(3)`,
          ids,
          token,
        ]);
        const rows = await query([`SELECT mine.entry AS entry FROM ${byId(outbox)} WHERE mine.lease = ? ORDER BY mine.seq`, ids, token]);
        // If there are none, another process was faster.
        if (rows.length > 0) return rows;
      }
      return [];
    },
    find: (id) => [`SELECT entry FROM ${outbox} WHERE id = ? AND reason IS NULL`, id],
    remove: (ids) => [`DELETE mine FROM ${byId(outbox)}`, JSON.stringify(ids)],
    setAside: (ids, reason) => [`UPDATE ${byId(outbox)} SET mine.reason = ?`, JSON.stringify(ids), reason],
    markDone: (id) => [`INSERT INTO ${done} (id, done_at) VALUES (?, UTC_TIMESTAMP(3))`, id],
    isDone: (id) => [`SELECT id FROM ${done} WHERE id = ?`, id],
    oldDone: (age, limit) => [
      `SELECT id FROM ${done} WHERE done_at < TIMESTAMPADD(SECOND, -${Math.ceil(age / 1_000)}, UTC_TIMESTAMP(3)) LIMIT ${limit}`,
    ],
    removeDone: (ids) => [`DELETE mine FROM ${byId(done)}`, JSON.stringify(ids)],
  };
}

/** The number of times that a process tries to lease entries, if another process leases them first each time. */
const MAX_TRIES = 5;

/** Escapes all characters of a JSON text that are not ASCII. */
function inAscii(json: string): string {
  return json.replaceAll(/[\u0080-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

export const DIALECTS: Readonly<Record<OutboxDialect, (table: string, lease: number) => Dialect>> = { postgres, mysql };
