import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { EngineEntry } from '../../lib/engine/engine.js';
import { type BackgroundTasksOutbox, sqlOutbox } from 'nestjs-background-tasks/outbox';
import { type Connected, type Database, databases } from '../support/outbox-databases.js';
import type { Server } from '../support/servers.js';

// The port of an outbox (Transactions in the design), with each library that an outbox has a client for, on real servers.

const entry = (id: string, args = '[]'): EngineEntry => ({
  id,
  name: 'mail',
  provider: 'MailTasks',
  args,
  timeout: undefined,
  trace: undefined,
  options: {},
});

/** As it comes back. */
const saved = (id: string, args = '[]'): object => ({ id, name: 'mail', provider: 'MailTasks', args, options: {} });

/** Values that JSON, SQL, placeholders or character sets could spoil. */
const DIFFICULT = JSON.stringify([
  '"\'\\`',
  '$1 ?? ? :name ::text @x %s',
  'a\0b',
  '\ud800',
  'é 漢 😀',
  '\n\t\u2028',
  '${x}',
  '--',
  '/* */',
]);

describe.each(databases)('an outbox in $name', ({ libraries, ...database }: Database) => {
  let server: Server;

  beforeAll(async () => {
    server = await database.start();
  }, 60_000);

  afterAll(() => server.remove());

  describe.each(libraries)('with $name', (library) => {
    let db: Connected;
    let outbox: BackgroundTasksOutbox;

    const save = (...entries: EngineEntry[]): Promise<void> => db.transaction((client) => outbox.save(client, entries));
    /** As if the lease of all rows had run out. */
    const expire = (): Promise<unknown> => db.pool.query("UPDATE background_tasks_outbox SET leased_until = '2020-01-01 00:00:00'", []);
    const leaseAll = async (): Promise<string[]> => {
      await expire();
      return (await outbox.lease(100)).map(({ id }) => id);
    };

    beforeAll(async () => {
      db = await library.connect(server.url);
      outbox = sqlOutbox(db.pool, { migrate: true });
      await outbox.open();
    }, 60_000);

    afterAll(() => db.end());

    beforeEach(async () => {
      await db.pool.query('DELETE FROM background_tasks_outbox', []);
      await db.pool.query('DELETE FROM background_tasks_outbox_done', []);
    });

    it('opens again, without creating tables', async () => {
      await sqlOutbox(db.pool).open();
      await sqlOutbox(db.pool, { migrate: true }).open();
      await outbox.ping();
    });

    it('keeps what a committed transaction has saved, in its order, and nothing of one that is rolled back', async () => {
      await save(entry('3'), entry('1'));
      await save(entry('2'));
      const rolledBack = db.transaction(async (client) => {
        await outbox.save(client, [entry('4')]);
        throw new Error('no order');
      });
      await expect(rolledBack).rejects.toThrow('no order');
      await expect(leaseAll()).resolves.toEqual(['3', '1', '2']);
    });

    it('gives entries back as they were', async () => {
      await save(entry('1', DIFFICULT));
      await expect(outbox.find('1')).resolves.toEqual(saved('1', DIFFICULT));
      await expect(outbox.find('2')).resolves.toBeUndefined();
      await expire();
      await expect(outbox.lease(10)).resolves.toEqual([saved('1', DIFFICULT)]);
    });

    it('leases what it saves to the process that saves it, and then to one at a time', async () => {
      await save(entry('1'), entry('2'), entry('3'));
      await expect(outbox.lease(10)).resolves.toEqual([]);
      await expire();
      await expect(outbox.lease(2)).resolves.toEqual([saved('1'), saved('2')]);
      await expect(outbox.lease(2)).resolves.toEqual([saved('3')]);
      await expect(outbox.lease(2)).resolves.toEqual([]);
    });

    it('removes entries, also those that are no longer there', async () => {
      await save(entry('1'), entry('2'), entry('3'));
      await outbox.remove([]);
      await outbox.remove(['3', 'x', '1']);
      await outbox.remove(['1']);
      await expect(leaseAll()).resolves.toEqual(['2']);
    });

    it('sets entries aside with a reason, and leases them no more', async () => {
      await save(entry('1'), entry('2'));
      await outbox.setAside(['1'], 'Invalid "delay": \0 \ud83d it\'s $1 or ?');
      await expect(leaseAll()).resolves.toEqual(['2']);
      await expect(outbox.find('1')).resolves.toBeUndefined();
      const rows = await db.pool.query("SELECT reason FROM background_tasks_outbox WHERE id = '1'", []);
      expect(rows).toEqual([{ reason: 'Invalid "delay": \ufffd \ufffd it\'s $1 or ?' }]);
    });

    it('marks a task as done once, as part of a transaction', async () => {
      const rolledBack = db.transaction(async (client) => {
        await outbox.markDone(client, '1');
        throw new Error('no order');
      });
      await expect(rolledBack).rejects.toThrow('no order');
      await expect(outbox.isDone('1')).resolves.toBe(false);
      await db.transaction((client) => outbox.markDone(client, '1'));
      await expect(outbox.isDone('1')).resolves.toBe(true);
      await expect(db.transaction((client) => outbox.markDone(client, '1'))).rejects.toThrow(
        expect.objectContaining({
          code: 'BACKGROUND_TASK_OUTBOX',
          message: expect.stringContaining('another run has committed that task 1 is done'),
        }),
      );
    });

    it('saves a thousand entries at once', async () => {
      const ids = Array.from({ length: 1_000 }, (_, n) => `${n}`);
      await save(...ids.map((id) => entry(id)));
      await expire();
      await expect(outbox.lease(2_000)).resolves.toEqual(ids.map((id) => saved(id)));
      await outbox.remove(ids);
      await expect(leaseAll()).resolves.toEqual([]);
    });
  });
});
