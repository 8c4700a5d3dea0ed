import { inspect } from 'node:util';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { EngineEntry } from '../../lib/engine/engine.js';
import { BackgroundTasksError } from 'nestjs-background-tasks';
import { type OutboxClient, outboxTables, sqlOutbox } from 'nestjs-background-tasks/outbox';
import { type Connected, type Database, databases } from '../support/outbox-databases.js';
import type { Server } from '../support/servers.js';

// An outbox in a database (Transactions in the design): processes beside each other, tables and rights that are missing, errors without
// arguments.

const entry = (id: string, args = '[]'): EngineEntry => ({
  id,
  name: 'mail',
  provider: 'MailTasks',
  args,
  timeout: undefined,
  trace: undefined,
  options: {},
});

const entries = (count: number): EngineEntry[] => Array.from({ length: count }, (_, n) => entry(`${n}`));

const errorOf = (promise: Promise<unknown>): Promise<BackgroundTasksError> =>
  promise.then(
    () => Promise.reject(new Error('It did not reject')),
    (error: unknown) => error as BackgroundTasksError,
  );

describe.each(databases)('an outbox in $name', ({ dialect, libraries, ...database }: Database) => {
  const [driver] = libraries;
  let server: Server;
  let db: Connected;
  /** The pool of a second process. */
  let other: Connected;

  const run = (sql: string): ReturnType<OutboxClient['query']> => db.pool.query(sql, []);
  const expire = (): Promise<unknown> => run("UPDATE background_tasks_outbox SET leased_until = '2020-01-01 00:00:00'");
  const waitingForLocks = async (): Promise<number> => {
    const sql =
      dialect === 'postgres'
        ? `SELECT count(*) AS "Value" FROM pg_stat_activity WHERE wait_event_type = 'Lock'`
        : "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'";
    return Number((await run(sql))[0]!['Value']);
  };

  beforeAll(async () => {
    server = await database.start();
    [db, other] = await Promise.all([driver.connect(server.url), driver.connect(server.url)]);
  }, 60_000);

  afterAll(async () => {
    await Promise.all([db.end(), other.end()]);
    await server.remove();
  });

  describe('that is open', () => {
    beforeEach(async () => {
      await sqlOutbox(db.pool, { migrate: true }).open();
      await run('DELETE FROM background_tasks_outbox');
      await run('DELETE FROM background_tasks_outbox_done');
    });

    const open = async (pool: OutboxClient, lease?: number) => {
      const outbox = sqlOutbox(pool, { lease });
      await outbox.open();
      return outbox;
    };

    it('never gives an entry to two processes that lease at the same time', async () => {
      const outboxes = await Promise.all([open(db.pool), open(other.pool)]);
      await db.transaction((client) => outboxes[0].save(client, entries(600)));
      await expire();
      const leased: string[] = [];
      const leaseAll = async (outbox: (typeof outboxes)[0]): Promise<void> => {
        for (let some = await outbox.lease(20); some.length > 0; some = await outbox.lease(20)) leased.push(...some.map(({ id }) => id));
      };
      await Promise.all(outboxes.flatMap((outbox) => [leaseAll(outbox), leaseAll(outbox)]));
      expect(leased.length).toBe(600);
      expect(new Set(leased).size).toBe(600);
    });

    it('gives an entry to another process when the lease is over, by the clock of the server', async () => {
      const [mine, theirs] = await Promise.all([open(db.pool, 1_000), open(other.pool, 1_000)]);
      const start = performance.now();
      await db.transaction((client) => mine.save(client, entries(1)));
      while ((await theirs.lease(10)).length === 0) await setImmediate();
      const waited = performance.now() - start;
      expect(waited).toBeGreaterThan(900);
      expect(waited).toBeLessThan(5_000);
    });

    it('counts a lease from the save, and not from the beginning of a long transaction', async () => {
      const outbox = await open(db.pool, 2_000);
      await db.transaction(async (client) => {
        await client.query(dialect === 'postgres' ? 'SELECT 1 FROM pg_sleep(2.2)' : 'SELECT SLEEP(2.2)', []);
        await outbox.save(client, entries(1));
      });
      await expect(outbox.lease(10)).resolves.toEqual([]);
    });

    it('waits for no open transaction, neither to lease nor to remove nor to set aside', async () => {
      const outbox = await open(db.pool);
      await db.transaction((client) => outbox.save(client, entries(3)));
      await expire();
      await other.transaction(async (client) => {
        await outbox.save(client, [entry('open')]);
        expect((await outbox.lease(10)).map(({ id }) => id)).toEqual(['0', '1', '2']);
        await outbox.setAside(['2'], 'reason');
        await outbox.remove(['1', '0', 'x']);
        expect((await run('SELECT id FROM background_tasks_outbox')).map(({ id }) => id)).toEqual(['2']);
      });
    });

    it('saves beside other transactions that save, as none waits for another', async () => {
      const outbox = await open(db.pool);
      await db.transaction(async (client) => {
        await outbox.save(client, [entry('1')]);
        await other.transaction((second) => outbox.save(second, [entry('2')]));
      });
      expect((await run('SELECT id FROM background_tasks_outbox ORDER BY seq')).map(({ id }) => id)).toEqual(['1', '2']);
    });

    it('lets a second run wait for the one that marked a task, and rejects it if that one commits', async () => {
      const outbox = await open(db.pool);
      let second!: Promise<unknown>;
      await db.transaction(async (client) => {
        await outbox.markDone(client, 'task');
        second = errorOf(other.transaction((theirs) => outbox.markDone(theirs, 'task')));
        while ((await waitingForLocks()) === 0) await setImmediate();
        await expect(outbox.isDone('task')).resolves.toBe(false);
      });
      await expect(second).resolves.toMatchObject({
        code: 'BACKGROUND_TASK_OUTBOX',
        message: expect.stringContaining('another run has committed'),
      });
      await expect(outbox.isDone('task')).resolves.toBe(true);
    });

    it('lets a second run mark a task if the first one is rolled back', async () => {
      const outbox = await open(db.pool);
      let second!: Promise<unknown>;
      const first = db.transaction(async (client) => {
        await outbox.markDone(client, 'task');
        second = other.transaction((theirs) => outbox.markDone(theirs, 'task'));
        while ((await waitingForLocks()) === 0) await setImmediate();
        throw new Error('no order');
      });
      await expect(first).rejects.toThrow('no order');
      await second;
      await expect(outbox.isDone('task')).resolves.toBe(true);
    });

    it('forgets done tasks after 8 days', async () => {
      const outbox = await open(db.pool);
      const ago = (days: number): string =>
        dialect === 'postgres' ? `now() - INTERVAL '${days * 24} hours'` : `TIMESTAMPADD(HOUR, -${days * 24}, UTC_TIMESTAMP(3))`;
      for (const days of [9, 7, 8.1, 7.9])
        await run(`INSERT INTO background_tasks_outbox_done (id, done_at) SELECT '${days}', ${ago(days)}`);
      await outbox.forgetDone();
      expect((await run('SELECT id FROM background_tasks_outbox_done ORDER BY id')).map(({ id }) => id)).toEqual(['7', '7.9']);
    });

    it('forgets more done tasks than one statement removes', async () => {
      const outbox = await open(db.pool);
      const rows = Array.from({ length: 12_000 }, (_, n) => `('${n}', '2020-01-01 00:00:00')`);
      await run(`INSERT INTO background_tasks_outbox_done (id, done_at) VALUES ${rows.join(', ')}`);
      await outbox.forgetDone();
      expect(await run('SELECT id FROM background_tasks_outbox_done')).toEqual([]);
    });

    it('rejects a save in a transaction that has failed, or that only reads', async () => {
      const outbox = await open(db.pool);
      const readOnly = db.transaction(async (client) => {
        if (dialect === 'postgres') await client.query('SET TRANSACTION READ ONLY', []);
        else for (const sql of ['ROLLBACK', 'START TRANSACTION READ ONLY']) await client.query(sql, []);
        await outbox.save(client, entries(1));
      });
      await expect(errorOf(readOnly)).resolves.toMatchObject({
        code: 'BACKGROUND_TASK_OUTBOX',
        message: expect.stringMatching(/^The outbox could not save the tasks of a transaction: .*READ.ONLY/i),
      });
    });

    it('gives a deadlock or a serialization failure back as it is, as that is what has a transaction tried again', async () => {
      const outbox = await open(db.pool);
      const error = await errorOf(
        db.transaction(async (client) => {
          await outbox.markDone(client, 'a');
          const theirs = other.transaction(async (second) => {
            await outbox.markDone(second, 'b');
            await outbox.markDone(second, 'a');
          });
          const theirError = errorOf(theirs);
          while ((await waitingForLocks()) === 0) await setImmediate();
          const mine = outbox.markDone(client, 'b');
          mine.catch(() => undefined);
          throw await Promise.any([errorOf(mine), theirError]);
        }),
      );
      expect(error).not.toBeInstanceOf(BackgroundTasksError);
      expect(error.code).toBe(dialect === 'postgres' ? '40P01' : 'ER_LOCK_DEADLOCK');
    });

    it('cannot be used before it is opened', async () => {
      await expect(sqlOutbox(db.pool).lease(1)).rejects.toThrow('The outbox is not open');
    });
  });

  describe('whose tables are missing', () => {
    const client = (user: string, password = user): string => server.url.replace(/\/\/\w+@/, `//${user}:${password}@`);

    it('says which SQL a migration needs, which is that of outboxTables()', async () => {
      const error = await errorOf(sqlOutbox(db.pool, { table: 'none' }).open());
      expect(error).toMatchObject({ code: 'BACKGROUND_TASK_OUTBOX', message: expect.stringContaining('pass `migrate: true`') });
      for (const sql of outboxTables(dialect, 'none')) expect(error.message).toContain(sql);
      for (const sql of [...outboxTables(dialect, 'none'), ...outboxTables(dialect, 'none')]) await run(sql);
      await sqlOutbox(db.pool, { table: 'none' }).open();
    });

    it('says so if only the table of done tasks is', async () => {
      await sqlOutbox(db.pool, { table: 'half', migrate: true }).open();
      await run('DROP TABLE half_done');
      await expect(sqlOutbox(db.pool, { table: 'half' }).open()).rejects.toThrow('a table is missing');
    });

    it('creates them once if five processes start at the same time', async () => {
      for (const table of ['race_1', 'race_2', 'race_3']) {
        const pools = await Promise.all(Array.from({ length: 5 }, () => driver.connect(server.url)));
        await Promise.all(pools.map(({ pool }) => sqlOutbox(pool, { table, migrate: true }).open()));
        await Promise.all(pools.map((pool) => pool.end()));
      }
    });

    it('creates them in a schema', async () => {
      await run('CREATE SCHEMA tasks');
      const outbox = sqlOutbox(db.pool, { table: 'tasks.Outbox', migrate: true });
      await outbox.open();
      await db.transaction((inTransaction) => outbox.save(inTransaction, entries(1)));
      await expect(outbox.find('0')).resolves.toMatchObject({ id: '0' });
      await outbox.remove(['0']);
      await expect(outbox.find('0')).resolves.toBeUndefined();
    });

    it('says which column a table lacks', async () => {
      await sqlOutbox(db.pool, { table: 'older', migrate: true }).open();
      await run('ALTER TABLE older DROP COLUMN reason');
      await expect(errorOf(sqlOutbox(db.pool, { table: 'older' }).open())).resolves.toMatchObject({
        code: 'BACKGROUND_TASK_OUTBOX',
        message: expect.stringContaining('a table lacks a column'),
      });
    });

    it('says which rights a user lacks, and needs no other ones', async () => {
      await sqlOutbox(db.pool, { table: 'restricted', migrate: true }).open();
      await run(dialect === 'postgres' ? 'CREATE ROLE app LOGIN' : "CREATE USER app IDENTIFIED BY 'app'");
      await run(dialect === 'postgres' ? 'GRANT USAGE ON SCHEMA public TO app' : 'GRANT SELECT ON mysql.restricted_done TO app');
      const restricted = await driver.connect(client('app'));
      const outbox = sqlOutbox(restricted.pool, { table: 'restricted' });
      const error = await errorOf(outbox.open());
      expect(error.message).toContain('the user of the database lacks a right');
      const [, grants = ''] = /run:\n(.*);\n/.exec(error.message) ?? [];
      for (const grant of grants.split('; ')) await run(grant.replace('…', 'app'));
      await outbox.open();
      await restricted.transaction((inTransaction) => outbox.save(inTransaction, entries(1)));
      await restricted.transaction((inTransaction) => outbox.markDone(inTransaction, '0'));
      await outbox.remove(['0']);
      await outbox.forgetDone();
      await expect(sqlOutbox(restricted.pool, { table: 'not_there', migrate: true }).open()).rejects.toThrow(
        // MySQL does not say whether a table exists to somebody without rights.
        dialect === 'postgres' ? 'The outbox could not create its tables' : 'the user of the database lacks a right',
      );
      // The tables are there: it does not try.
      await sqlOutbox(restricted.pool, { table: 'restricted', migrate: true }).open();
      await restricted.end();
    });

    it('says what is wrong if the database is away', async () => {
      const away = await driver.connect(server.url.replace(/:\d+\//, ':1/'));
      await expect(errorOf(sqlOutbox(away.pool).open())).resolves.toMatchObject({
        code: 'BACKGROUND_TASK_OUTBOX',
        message: expect.stringMatching(/^The outbox could not read the version of the database: .*ECONNREFUSED/),
      });
      await away.end();
    });
  });

  describe.each(libraries)('with $name', (library) => {
    it('has no argument of a task in its errors', async () => {
      const pool = await library.connect(server.url);
      const outbox = sqlOutbox(pool.pool, { table: 'quiet', migrate: true });
      await outbox.open();
      const tasks = [entry('id', '["a - secret\'s"]'), entry('id', '["secret"]')];
      const error = await errorOf(pool.transaction((client) => outbox.save(client, tasks)));
      expect(error.message).toMatch(/^The outbox could not save the tasks of a transaction: duplicate (key value violates|entry)/i);
      expect(error.cause).toBeInstanceOf(Error);
      for (let one: unknown = error; one instanceof Error; one = one.cause) {
        expect(`${one.message} ${one.stack}`).not.toContain('secret');
      }
      expect(inspect(error, { depth: null, showHidden: true })).not.toContain('secret');
      await pool.end();
    });
  });
});

describe('sqlOutbox()', () => {
  const client: OutboxClient = { query: async (sql) => (sql.includes('version()') ? [{ version: 'PostgreSQL 18.4' }] : []) };

  it.each([
    [{ table: 'a b' }, 'Expected the option `table` of sqlOutbox() to be the name of a table'],
    [{ table: 'a.b.c' }, 'Expected the option `table`'],
    [{ table: 'a"b' }, 'Expected the option `table`'],
    [{ lease: 10 }, 'Expected the option `lease` of sqlOutbox() to be milliseconds, an integer from 1000 to 3600000, got `10` (number)'],
    [{ keepDone: 1_000 }, 'Expected the option `keepDone` of sqlOutbox() to be milliseconds, an integer from 86400000'],
    [{ migrate: 'yes' as never }, 'Expected the option `migrate` of sqlOutbox() to be true or false'],
    [{ tabel: 'x' } as never, 'Unknown option `tabel` of sqlOutbox()'],
  ])('refuses %j', (options, message) => {
    expect(() => sqlOutbox(client, options)).toThrow(message);
  });

  it('does not wait for ever for a database that does not answer', async () => {
    const outbox = sqlOutbox({ query: (sql) => (sql.includes(' SKIP LOCKED') ? new Promise(() => undefined) : client.query(sql, [])) });
    await outbox.open();
    jest.useFakeTimers();
    try {
      const error = errorOf(outbox.lease(10));
      await jest.advanceTimersByTimeAsync(10_000);
      expect((await error).message).toBe('The outbox could not take over tasks: the database did not answer within 10000 ms');
    } finally {
      jest.useRealTimers();
    }
  });

  it('lets no error out that it cannot take arguments from', async () => {
    const outbox = sqlOutbox(client);
    await outbox.open();
    const frozen = Object.freeze(
      Object.assign(new Error('INSERT INTO "background_tasks_outbox" … secret'), { code: '40001', sql: 'secret' }),
    );
    const error = await errorOf(outbox.save({ query: () => Promise.reject(frozen) }, entries(1)));
    expect(error).toMatchObject({ code: 'BACKGROUND_TASK_OUTBOX', cause: undefined });
    expect(inspect(error, { depth: null, showHidden: true })).not.toContain('secret');
  });

  it('refuses what is no client', () => {
    expect(() => sqlOutbox({} as OutboxClient)).toThrow(
      'Expected the first argument of sqlOutbox() to be a client, such as `fromPg(pool)`',
    );
    expect(() => outboxTables('sqlite' as never)).toThrow("Expected the first argument of outboxTables() to be 'postgres' or 'mysql'");
    expect(() => outboxTables('mysql', "x'")).toThrow('Expected the option `table`');
  });

  it.each([
    'PostgreSQL 11.22 on x86_64',
    '5.7.44-log',
    '10.5.29-MariaDB',
    '8.0.11-TiDB-v8.5.0',
    'CockroachDB CCL v25.1.0',
    'Microsoft SQL Server',
  ])('refuses %s', async (version) => {
    await expect(sqlOutbox({ query: async () => [{ version }] }).open()).rejects.toThrow(
      `The outbox needs Postgres 12, MySQL 8.0, MariaDB 10.6, or later versions of these, got ${version}`,
    );
  });

  it.each(['PostgreSQL 12.0', 'PostgreSQL 18.4 on x86_64', '8.0.43', '9.4.0', '10.6.1-MariaDB', '11.8.3-MariaDB-ubu2404'])(
    'takes %s',
    async (version) => {
      await sqlOutbox({ query: async () => [{ version }] }).open();
    },
  );
});
