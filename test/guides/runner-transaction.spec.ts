import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Inject, Injectable, type MessageEvent, Module, Param, Post, Scope, Sse, type Type } from '@nestjs/common';
import { type Observable, concatMap, from } from 'rxjs';
import { Pool, type PoolClient } from 'pg';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksModule,
  type BackgroundTasksRootOptions,
  currentTask,
} from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';
import { type Server, startPostgres } from '../support/servers.js';
import { inTransaction } from '../support/transaction.js';

// Guarantee 12: a task that is added in a transaction runs if and only if that is committed. On Postgres.

let postgres: Server;
let pool: Pool;
let log: string[];

beforeAll(async () => {
  postgres = await startPostgres();
  pool = new Pool({ connectionString: postgres.url });
  await pool.query('CREATE TABLE orders (id text PRIMARY KEY, parent text REFERENCES orders DEFERRABLE INITIALLY DEFERRED)');
}, 60_000);

afterAll(async () => {
  await pool.end();
  await postgres.remove();
});

beforeEach(async () => {
  log = [];
  await pool.query('DELETE FROM orders');
});

async function inSavepoint(client: PoolClient, work: () => Promise<void>): Promise<void> {
  await client.query('SAVEPOINT part');
  try {
    await work();
    await client.query('RELEASE SAVEPOINT part');
  } catch (error) {
    await client.query('ROLLBACK TO SAVEPOINT part');
    throw error;
  }
}

const insert = (client: PoolClient, id: string, parent?: string) => client.query('INSERT INTO orders VALUES ($1, $2)', [id, parent]);

/** A task that says whether it sees its order. */
async function confirm(id: string): Promise<void> {
  const { rowCount } = await pool.query('SELECT FROM orders WHERE id = $1', [id]);
  log.push(`${id} is ${rowCount ? '' : 'not '}there`);
}

@Injectable()
class MailTasks {
  @BackgroundTask('mail')
  mail(_id: string): void {}
}

type Work = (tasks: BackgroundTasks, id: string) => Promise<unknown>;
let work: Work;
let stream: (tasks: BackgroundTasks) => Observable<MessageEvent>;

@Injectable()
class Orders {
  constructor(@Inject(BackgroundTasks) readonly tasks: BackgroundTasks) {}
}

@Controller()
class OrdersController {
  constructor(@Inject(Orders) private readonly orders: Orders) {}

  @Post('parameter/:id')
  async parameter(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    await work(tasks, id);
  }

  @Sse('events')
  events(@BackgroundTasks() tasks: BackgroundTasks): Observable<MessageEvent> {
    return stream(tasks);
  }

  @Post('injected/:id')
  async injected(@Param('id') id: string) {
    await work(this.orders.tasks, id);
  }
}

function moduleWith(options: BackgroundTasksRootOptions): Type {
  @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [OrdersController], providers: [Orders, MailTasks] })
  class OrdersModule {}
  return OrdersModule;
}

describe.each(platforms)('runner.transaction(), on %s', (platform) => {
  describe.each([
    ['Scope.REQUEST', Scope.REQUEST],
    ['Scope.DEFAULT', Scope.DEFAULT],
  ] as const)('%s', (_, scope) => {
    describe.each(['parameter', 'injected'])('%s list', (list) => {
      it('a task of a committed transaction runs, also if the request fails', async () => {
        const { http, runner } = await createApp(platform, moduleWith({ scope }));
        work = async (tasks, id) => {
          await runner.transaction((join) =>
            inTransaction(pool, (client) =>
              join(async () => {
                await insert(client, id);
                tasks.addTask(confirm, id);
                expect(runner.pendingCount).toBe(1);
              }),
            ),
          );
          throw new Error('after the commit');
        };
        await http.post(`/${list}/1`).expect(500);
        await runner.onIdle();
        expect(log).toEqual(['1 is there']);
      });

      it('one of a transaction that is rolled back is discarded, also if the handler catches the exception', async () => {
        const { http, runner } = await createApp(platform, moduleWith({ scope }));
        let ended: Promise<string> | undefined;
        work = (tasks, id) =>
          runner
            .transaction((join) =>
              inTransaction(pool, (client) =>
                join(async () => {
                  await insert(client, id);
                  ({ ended } = tasks.addTask(confirm, id));
                  throw new Error('the payment fails');
                }),
              ),
            )
            .catch(() => undefined);
        await http.post(`/${list}/1`).expect(201);
        await runner.onIdle();
        expect([log, runner.discardedCount, await ended]).toEqual([[], 1, 'discarded']);
      });
    });
  });

  it('a COMMIT that fails discards the task', async () => {
    const { http, runner } = await createApp(platform, moduleWith({}));
    work = (tasks, id) =>
      runner.transaction((join) =>
        inTransaction(pool, (client) =>
          join(async () => {
            tasks.addTask(confirm, id);
            await insert(client, id, 'nobody');
          }),
        ),
      );
    await http.post('/parameter/1').expect(500);
    await runner.onIdle();
    expect([log, runner.discardedCount]).toEqual([[], 1]);
  });

  it('a stream of events, each of a transaction: the tasks of those that are committed run when the stream is over', async () => {
    const { http, runner } = await createApp(platform, moduleWith({}));
    stream = (tasks) => {
      const place = (id: string): Promise<unknown> =>
        runner
          .transaction((join) =>
            inTransaction(pool, (client) =>
              join(async () => {
                await insert(client, id);
                tasks.addTask(confirm, id);
                if (id === 'unpaid') throw new Error('the payment fails');
              }),
            ),
          )
          .catch(() => undefined);
      return from(['paid', 'unpaid']).pipe(concatMap(async (id) => ({ data: { id: String(await place(id)), ran: log.length } })));
    };
    const { text } = await http.get('/events').expect(200);
    await runner.onIdle();
    expect(text.match(/"ran":0/g)).toHaveLength(2);
    expect([log, runner.discardedCount]).toEqual([['paid is there'], 1]);
  });

  it("tasks with runOn 'always' and 'failure' join no transaction", async () => {
    const { http, runner } = await createApp(platform, moduleWith({}));
    work = (tasks) =>
      runner.transaction((join) =>
        join(() => {
          tasks.addTask({ runOn: 'always' }, () => log.push('always'));
          tasks.addTask({ runOn: 'failure' }, () => log.push('failure'));
          throw new Error('rolled back');
        }),
      );
    await http.post('/parameter/1').expect(500);
    await runner.onIdle();
    expect(log).toEqual(['always', 'failure']);
  });

  it('an engine gets the tasks of committed transactions alone', async () => {
    const entries: string[] = [];
    const engine = {
      enqueue: async (added: readonly { args: string }[]) => void entries.push(...added.map(({ args }) => args)),
      work: () => undefined,
      close: async () => undefined,
    };
    const { http, runner } = await createApp(platform, moduleWith({ engine }));
    work = (tasks, id) =>
      runner
        .transaction((join) =>
          inTransaction(pool, (client) =>
            join(async () => {
              await insert(client, id);
              tasks.addTask(MailTasks.prototype.mail, id);
              if (id === 'unpaid') throw new Error('the payment fails');
            }),
          ),
        )
        .catch(() => undefined);
    await http.post('/parameter/unpaid').expect(201);
    await http.post('/parameter/paid').expect(201);
    await runner.onIdle();
    expect(entries).toEqual(['["paid"]']);
  });
});

describe('runner.transaction(), in within()', () => {
  it('the part of a savepoint that is rolled back vanishes, and a part that is kept goes with the commit', async () => {
    const { runner } = await createApp('Express', moduleWith({}));
    await runner.within((tasks) =>
      runner.transaction((join) =>
        inTransaction(pool, (client) =>
          join(async () => {
            const part = (id: string, fails: boolean) =>
              inSavepoint(client, () =>
                join(async () => {
                  await insert(client, id);
                  tasks.addTask(confirm, id);
                  if (fails) throw new Error('the part fails');
                }),
              ).catch(() => undefined);
            await part('kept', false);
            await part('gone', true);
            tasks.addTask(confirm, 'gone');
          }),
        ),
      ),
    );
    await runner.onIdle();
    expect([log, runner.discardedCount]).toEqual([['kept is there', 'gone is not there'], 1]);
  });

  it('of several attempts, the one that is committed has its task run', async () => {
    const { runner } = await createApp('Express', moduleWith({}));
    await runner.within((tasks) =>
      runner.transaction(async (join) => {
        const attempt = (number: number) =>
          inTransaction(pool, (client) =>
            join(async () => {
              tasks.addTask(() => log.push(`attempt ${number}`));
              await insert(client, '1', number === 1 ? 'nobody' : undefined);
            }),
          );
        await attempt(1).catch(() => attempt(2));
      }),
    );
    await runner.onIdle();
    expect([log, runner.discardedCount]).toEqual([['attempt 2'], 1]);
  });

  it('a transaction that lost to another one, 40001, and is run again has one task run', async () => {
    const { runner } = await createApp('Express', moduleWith({}));
    await pool.query("INSERT INTO orders VALUES ('stock', NULL)");
    let attempts = 0;
    await runner.within((tasks) =>
      runner.transaction(async (join) => {
        for (;;) {
          try {
            return await inTransaction(pool, (client) =>
              join(async () => {
                attempts += 1;
                await client.query('SET TRANSACTION ISOLATION LEVEL SERIALIZABLE');
                await client.query('SELECT * FROM orders');
                tasks.addTask(confirm, `attempt ${attempts}`);
                // Another one writes what this one has read.
                if (attempts === 1) await pool.query("UPDATE orders SET parent = 'stock' WHERE id = 'stock'");
                await client.query("UPDATE orders SET parent = NULL WHERE id = 'stock'");
              }),
            );
          } catch (error) {
            if ((error as { code?: string }).code !== '40001') throw error;
          }
        }
      }),
    );
    await runner.onIdle();
    expect([attempts, log, runner.discardedCount]).toEqual([2, ['attempt 2 is not there'], 1]);
  });

  it('a unit of work inside of a transaction: its tasks start after the commit, and are discarded if it fails', async () => {
    const { runner } = await createApp('Express', moduleWith({}));
    await runner.transaction((join) =>
      inTransaction(pool, (client) =>
        join(async () => {
          await runner.within(async (tasks) => {
            await insert(client, 'kept');
            tasks.addTask(confirm, 'kept');
          });
          const failed = runner.within((tasks) => {
            tasks.addTask(confirm, 'failed');
            throw new Error('the unit fails');
          });
          await failed.catch(() => undefined);
          expect(log).toEqual([]);
        }),
      ),
    );
    await runner.onIdle();
    expect([log, runner.discardedCount]).toEqual([['kept is there'], 1]);
  });

  it('a task that waits for the commit is found, and can be cancelled', async () => {
    const { runner } = await createApp('Express', moduleWith({}));
    await runner.within((tasks) =>
      runner.transaction((join) =>
        join(() => {
          const task = tasks.addTask(() => log.push('ran'));
          expect(runner.find(task.id)).toBe(task);
          expect(task.cancel()).toBe(true);
        }),
      ),
    );
    await runner.onIdle();
    expect([log, runner.pendingCount, runner.discardedCount]).toEqual([[], 0, 1]);
  });

  it('a task that is added after the end goes the ordinary way, with a warning; one that a task adds is not late', async () => {
    const { runner, logs } = await createApp('Express', moduleWith({}));
    const over = gate();
    await runner.within(async (tasks) => {
      let late: Promise<unknown> | undefined;
      await runner.transaction((join) =>
        join(() => {
          late = over.opened.then(() => tasks.addTask({ name: 'late' }, () => log.push('late')));
          tasks.addTask(() => void tasks.addTask({ name: 'next' }, () => log.push('next')));
        }),
      );
      over.open();
      await late;
    });
    await runner.onIdle();
    expect(log.sort()).toEqual(['late', 'next']);
    expect(logs.of('warn')).toEqual([expect.stringContaining('Background task "late" was added after its transaction was over')]);
  });

  it('a `join` that is never called, and a transaction inside of one, are told', async () => {
    const { runner, logs } = await createApp('Express', moduleWith({}));
    await runner.transaction(() => undefined);
    await runner.transaction((join) => join(() => runner.transaction((inner) => inner(() => undefined))));
    expect(logs.of('warn')).toEqual([
      expect.stringContaining('without calling `join`'),
      expect.stringContaining('`runner.transaction()` was called inside another one'),
    ]);
  });

  it('a shutdown drops what waits for a transaction that outlasts it', async () => {
    const errors: unknown[] = [];
    const { app, runner } = await createApp('Express', moduleWith({ shutdownTimeout: 20, onError: (error) => errors.push(error) }));
    const [added, end] = [gate(), gate()];
    const transaction = runner.within((tasks) =>
      runner.transaction((join) =>
        join(async () => {
          tasks.addTask(() => log.push(`ran as ${currentTask()?.name}`));
          added.open();
          await end.opened;
        }),
      ),
    );
    await added.opened;
    await app.close();
    end.open();
    await transaction;
    expect([log, errors]).toEqual([[], [expect.objectContaining({ code: 'BACKGROUND_TASK_SHUTDOWN' })]]);
  });
});
