import { EntitySchema } from '@mikro-orm/core';
import { MikroORM } from '@mikro-orm/postgresql';
import { drizzle as drizzleMysql } from 'drizzle-orm/mysql2';
import { drizzle as drizzlePostgres } from 'drizzle-orm/node-postgres';
import knex from 'knex';
import { CamelCasePlugin, Kysely, MysqlDialect, PostgresDialect } from 'kysely';
import { createPool as createCallbackPool } from 'mysql2';
import { createPool } from 'mysql2/promise';
import { Pool } from 'pg';
import { DataSource } from 'typeorm';
import {
  type OutboxClient,
  fromDrizzle,
  fromKnex,
  fromKysely,
  fromMikroOrm,
  fromMysql2,
  fromPg,
  fromPrisma,
  fromTypeOrm,
} from 'nestjs-background-tasks/outbox';
import { type Server, hasMariaDb, startMariaDb, startPostgres } from './servers.js';
import { inTransaction } from './transaction.js';

/** A library that is connected to a database. */
export interface Connected {
  readonly pool: OutboxClient;
  /** Commits when the work resolves, and rolls back when it rejects. */
  transaction<Result>(work: (client: OutboxClient) => Promise<Result>): Promise<Result>;
  end(): Promise<unknown>;
}

export interface Library {
  readonly name: string;
  connect(url: string): Promise<Connected>;
}

export interface Database {
  readonly name: 'Postgres' | 'MariaDB';
  readonly dialect: 'postgres' | 'mysql';
  start(): Promise<Server>;
  /** The first one has no library between it and the driver. */
  readonly libraries: readonly [Library, ...Library[]];
}

const postgres: Database = {
  name: 'Postgres',
  dialect: 'postgres',
  start: () => startPostgres(),
  libraries: [
    {
      name: 'pg',
      connect: async (connectionString) => {
        const pool = new Pool({ connectionString, max: 5 });
        const transaction: Connected['transaction'] = (work) => inTransaction(pool, (client) => work(fromPg(client)));
        return { pool: fromPg(pool), transaction, end: () => pool.end() };
      },
    },
    typeOrm('postgres'),
    {
      name: 'Drizzle',
      connect: async (connectionString) => {
        const pool = new Pool({ connectionString, max: 5 });
        const db = drizzlePostgres(pool);
        return { pool: fromDrizzle(db), transaction: (work) => db.transaction((tx) => work(fromDrizzle(tx))), end: () => pool.end() };
      },
    },
    kysely((connectionString) => new PostgresDialect({ pool: new Pool({ connectionString, max: 5 }) })),
    knexOn('pg'),
    {
      name: 'MikroORM',
      connect: async (clientUrl) => {
        const orm = await MikroORM.init({ clientUrl, entities: [Thing] });
        const { em } = orm;
        return { pool: fromMikroOrm(em), transaction: (work) => em.transactional((tx) => work(fromMikroOrm(tx))), end: () => orm.close() };
      },
    },
    {
      // Prisma itself is too large, and wants code that it generates: its two methods, as it has them on its adapter for `pg`.
      name: 'what Prisma has',
      connect: async (connectionString) => {
        const { pool, transaction, end } = await driverOf(postgres).connect(connectionString);
        return { pool: likePrisma(pool), transaction: (work) => transaction((client) => work(likePrisma(client))), end };
      },
    },
  ],
};

const mariaDb: Database = {
  name: 'MariaDB',
  dialect: 'mysql',
  start: startMariaDb,
  libraries: [
    {
      name: 'mysql2',
      connect: async (uri) => {
        const pool = createPool({ uri, connectionLimit: 5 });
        const transaction: Connected['transaction'] = async (work) => {
          const connection = await pool.getConnection();
          try {
            await connection.beginTransaction();
            const result = await work(fromMysql2(connection));
            await connection.commit();
            return result;
          } catch (error) {
            await connection.rollback();
            throw error;
          } finally {
            connection.release();
          }
        };
        return { pool: fromMysql2(pool), transaction, end: () => pool.end() };
      },
    },
    typeOrm('mysql'),
    {
      name: 'Drizzle',
      connect: async (uri) => {
        const pool = createPool({ uri, connectionLimit: 5 });
        const db = drizzleMysql(pool);
        return { pool: fromDrizzle(db), transaction: (work) => db.transaction((tx) => work(fromDrizzle(tx))), end: () => pool.end() };
      },
    },
    kysely((uri) => new MysqlDialect({ pool: createCallbackPool({ uri, connectionLimit: 5 }) })),
    knexOn('mysql2'),
  ],
};

/** Those that a spec can use. Postgres comes with a package, MariaDB must be installed. */
export const databases: readonly Database[] = [postgres, ...(hasMariaDb ? [mariaDb] : [])];

/** MikroORM wants an entity. */
const Thing = new EntitySchema<{ id: number }>({ name: 'Thing', properties: { id: { type: 'number', primary: true } } });

function typeOrm(type: 'postgres' | 'mysql'): Library {
  return {
    name: 'TypeORM',
    connect: async (url) => {
      const source = await new DataSource({ type, url }).initialize();
      return {
        pool: fromTypeOrm(source),
        transaction: (work) => source.transaction((manager) => work(fromTypeOrm(manager))),
        end: () => source.destroy(),
      };
    },
  };
}

function kysely(dialectOf: (url: string) => PostgresDialect | MysqlDialect): Library {
  return {
    name: 'Kysely',
    connect: async (url) => {
      // The plugin renames the columns of results.
      const db = new Kysely<object>({ dialect: dialectOf(url), plugins: [new CamelCasePlugin()] });
      return {
        pool: fromKysely(db),
        transaction: (work) => db.transaction().execute((tx) => work(fromKysely(tx))),
        end: () => db.destroy(),
      };
    },
  };
}

function knexOn(client: 'pg' | 'mysql2'): Library {
  return {
    name: 'Knex',
    connect: async (connection) => {
      const db = knex({ client, connection, pool: { min: 0, max: 5 } });
      return { pool: fromKnex(db), transaction: (work) => db.transaction((tx) => work(fromKnex(tx))), end: () => db.destroy() };
    },
  };
}

function driverOf({ libraries: [driver] }: Database): Library {
  return driver;
}

function likePrisma(client: OutboxClient): OutboxClient {
  return fromPrisma({
    $queryRawUnsafe: (sql, ...parameters) => client.query(sql, parameters),
    $executeRawUnsafe: async (sql, ...parameters) => {
      await client.query(sql, parameters);
      return 1;
    },
  });
}
