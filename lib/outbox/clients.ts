import type { OutboxClient } from '../engine/outbox.js';

// The types describe only the parts that are used, so that none of the libraries has to be installed.

type Row = Readonly<Record<string, unknown>>;

/** The client of `pg`: a `Pool` for `sqlOutbox()`, the `Client` or `PoolClient` of a transaction. */
export function fromPg(client: { query(sql: string, parameters: unknown[]): Promise<{ rows: unknown[] }> }): OutboxClient {
  return { query: async (sql, parameters) => rowsIn((await client.query(sql, [...parameters])).rows) };
}

/** The client of `mysql2/promise`: a `Pool` for `sqlOutbox()`, the `Connection` of a transaction. */
export function fromMysql2(client: { query(sql: string, parameters: unknown[]): Promise<unknown> }): OutboxClient {
  return { query: async (sql, parameters) => rowsOf(await client.query(sql, [...parameters])) };
}

/** The client of TypeORM: a `DataSource` for `sqlOutbox()`, the `EntityManager` of a transaction. */
export function fromTypeOrm(manager: { query(sql: string, parameters: unknown[]): Promise<unknown> }): OutboxClient {
  return { query: async (sql, parameters) => rowsIn(await manager.query(sql, [...parameters])) };
}

/** The client of Prisma: a `PrismaClient` for `sqlOutbox()`, the `tx` of a `$transaction()`. */
export function fromPrisma(client: {
  $queryRawUnsafe(sql: string, ...parameters: unknown[]): PromiseLike<unknown>;
  $executeRawUnsafe(sql: string, ...parameters: unknown[]): PromiseLike<unknown>;
}): OutboxClient {
  return {
    query: async (sql, parameters) =>
      hasRows(sql) ? rowsIn(await client.$queryRawUnsafe(sql, ...parameters)) : (await client.$executeRawUnsafe(sql, ...parameters), []),
  };
}

/** The client of Drizzle, on `node-postgres` or `mysql2`: the database for `sqlOutbox()`, the `tx` of a transaction. */
export function fromDrizzle(db: { execute(query: never): PromiseLike<unknown> }): OutboxClient {
  return {
    query: async (sql, parameters) => {
      // The part of the result of sql`…` that the database reads.
      const query = { getSQL: () => ({ toQuery: () => ({ sql, params: [...parameters], typings: [] }) }) };
      return rowsOf(await db.execute(query as never));
    },
  };
}

/** The client of Kysely: a `Kysely` for `sqlOutbox()`, the `Transaction` of a transaction. */
export function fromKysely(db: { executeQuery(query: never): Promise<{ rows: unknown[] }> }): OutboxClient {
  return {
    query: async (sql, parameters) => {
      // The result of `CompiledQuery.raw()`.
      const query = { sql, parameters, query: { kind: 'RawNode', sqlFragments: [sql], parameters: [] }, queryId: { queryId: 'outbox' } };
      return rowsIn((await db.executeQuery(query as never)).rows);
    },
  };
}

/** The client of Knex: a `Knex` for `sqlOutbox()`, the `Transaction` of a transaction. */
export function fromKnex(knex: { raw(sql: string, bindings: never[]): PromiseLike<unknown> }): OutboxClient {
  return { query: async (sql, parameters) => rowsOf(await knex.raw(withQuestionMarks(sql), [...parameters] as never[])) };
}

/** The client of MikroORM on an SQL database: `orm.em` for `sqlOutbox()`, the `EntityManager` of a transaction. */
export function fromMikroOrm(em: { execute(sql: string, parameters: unknown[]): Promise<unknown> }): OutboxClient {
  return { query: async (sql, parameters) => rowsIn(await em.execute(withQuestionMarks(sql), [...parameters])) };
}

/** The rows of a result of `pg`, or of `mysql2`, which returns `[rows, fields]`. */
function rowsOf(result: unknown): readonly Row[] {
  if (Array.isArray(result)) return rowsIn(result[0]);
  return typeof result === 'object' && result !== null && 'rows' in result ? rowsIn(result.rows) : [];
}

/** The rows of a result. A statement without rows returns counts instead. */
function rowsIn(result: unknown): readonly Row[] {
  return Array.isArray(result) ? result.filter((row): row is Row => typeof row === 'object' && row !== null && !Array.isArray(row)) : [];
}

function hasRows(sql: string): boolean {
  return /^\s*(?:SELECT|WITH)\b/i.test(sql);
}

/** Knex and MikroORM use the placeholder `?` for all databases. */
function withQuestionMarks(sql: string): string {
  return sql.replaceAll(/\$\d+/g, '?');
}
