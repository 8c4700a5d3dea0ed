// Guarantee 12, with an outbox: a task for an engine commits with its transaction, and the engine gets it after the COMMIT. On Postgres.
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Inject,
  Injectable,
  Module,
  type OnApplicationBootstrap,
  type OnModuleInit,
  Param,
  Post,
  Scope,
  type Type,
} from '@nestjs/common';
import { Pool, type PoolClient } from 'pg';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksModule,
  type BackgroundTasksRootOptions,
  BackgroundTasksRunner,
  type EngineEntry,
  type EngineHost,
  type EngineJob,
  currentTask,
} from 'nestjs-background-tasks';
import { type BackgroundTasksOutbox, type SqlOutboxOptions, fromPg, sqlOutbox, transactionalTasks } from 'nestjs-background-tasks/outbox';
import { inProcessEngine } from 'nestjs-background-tasks/testing';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';
import { type Server, startPostgres } from '../support/servers.js';
import { inTransaction } from '../support/transaction.js';

let postgres: Server;
let pool: Pool;
let log: string[];

beforeAll(async () => {
  postgres = await startPostgres();
  pool = new Pool({ connectionString: postgres.url });
  await pool.query('CREATE TABLE orders (id text PRIMARY KEY, parent text REFERENCES orders DEFERRABLE INITIALLY DEFERRED)');
  await sqlOutbox(fromPg(pool), { migrate: true }).open();
}, 60_000);

afterAll(async () => {
  await pool.end();
  await postgres.remove();
});

beforeEach(async () => {
  log = [];
  await pool.query('DELETE FROM orders');
  await pool.query('DELETE FROM background_tasks_outbox');
  await pool.query('DELETE FROM background_tasks_outbox_done');
});

const ids = async (table: string): Promise<string[]> =>
  (await pool.query<{ id: string }>(`SELECT id FROM ${table} ORDER BY id`)).rows.map(({ id }) => id);

const insert = (client: PoolClient, id: string, parent?: string) => client.query('INSERT INTO orders VALUES ($1, $2)', [id, parent]);

/** An engine that takes what its gate lets pass, and refuses what it is told to. */
class GatedEngine {
  readonly entries = new Recorder<EngineEntry>();
  taking: Gate | undefined;
  isAway = false;
  refusedArgs: string | undefined;
  refusedQueue: string | undefined;

  async enqueue(entries: readonly EngineEntry[]): Promise<void> {
    await this.taking?.opened;
    if (this.isAway) throw new Error('the engine is away');
    if (this.refusedQueue !== undefined && entries.some(({ queue }) => queue === this.refusedQueue)) throw new Error('no permission');
    if (entries.some(({ args }) => args === this.refusedArgs)) throw new Error('the engine does not like this');
    for (const entry of entries) this.entries.add(entry);
  }
  work(): undefined {}
  async close(): Promise<void> {}

  get args(): string[] {
    return this.entries.all.map(({ args }) => args);
  }
}

@Injectable()
class MailTasks {
  @BackgroundTask('mail')
  mail(id: string): void {
    log.push(`mail ${id}`);
  }
}

type Work = (tasks: BackgroundTasks, id: string) => Promise<unknown>;
let work: Work;

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

  @Post('injected/:id')
  async injected(@Param('id') id: string) {
    await work(this.orders.tasks, id);
  }
}

function moduleWith(options: BackgroundTasksRootOptions, providers: Type[] = [MailTasks]): Type {
  @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [OrdersController], providers: [Orders, ...providers] })
  class OrdersModule {}
  return OrdersModule;
}

const outbox = (settings: SqlOutboxOptions = {}): BackgroundTasksOutbox => sqlOutbox(fromPg(pool), settings);

/** Places an order and its mail in one transaction. */
function placing(runner: () => BackgroundTasksRunner, then: (client: PoolClient) => unknown = () => undefined): Work {
  return (tasks, id) =>
    runner().transaction((join) =>
      inTransaction(pool, (client) =>
        join(fromPg(client), async () => {
          await insert(client, id);
          tasks.addTask(MailTasks.prototype.mail, id);
          await then(client);
        }),
      ),
    );
}

const payment = (): never => {
  throw new Error('the payment fails');
};

describe.each(platforms)('an outbox, on %s', (platform) => {
  describe.each([
    ['Scope.REQUEST', Scope.REQUEST],
    ['Scope.DEFAULT', Scope.DEFAULT],
  ] as const)('%s', (_, scope) => {
    describe.each(['parameter', 'injected'])('%s list', (list) => {
      it('the answer is out when the transaction is committed, and the engine gets the task after that', async () => {
        const engine = new GatedEngine();
        const { http, runner } = await createApp(platform, moduleWith({ scope, engine, outbox: outbox() }));
        engine.taking = gate();
        work = placing(() => runner);
        await http.post(`/${list}/1`).expect(201);
        expect([await ids('orders'), (await ids('background_tasks_outbox')).length, engine.args]).toEqual([['1'], 1, []]);
        engine.taking.open();
        await runner.onIdle();
        expect([await ids('background_tasks_outbox'), engine.args]).toEqual([[], ['["1"]']]);
      });

      it('a transaction that is rolled back leaves no task, also if the handler catches the exception', async () => {
        const engine = new GatedEngine();
        const { http, runner } = await createApp(platform, moduleWith({ scope, engine, outbox: outbox() }));
        work = (tasks, id) => placing(() => runner, payment)(tasks, id).catch(() => undefined);
        await http.post(`/${list}/1`).expect(201);
        await runner.onIdle();
        expect([await ids('orders'), await ids('background_tasks_outbox'), engine.args, runner.discardedCount]).toEqual([[], [], [], 1]);
      });

      it('a COMMIT that fails leaves no task', async () => {
        const engine = new GatedEngine();
        const { http, runner } = await createApp(platform, moduleWith({ scope, engine, outbox: outbox() }));
        work = placing(
          () => runner,
          (client) => insert(client, '2', 'nobody'),
        );
        await http.post(`/${list}/1`).expect(500);
        await runner.onIdle();
        expect([await ids('orders'), await ids('background_tasks_outbox'), engine.args, runner.discardedCount]).toEqual([[], [], [], 1]);
      });
    });
  });

  it('with the engine away, the answer is 201, and the engine gets the task when it is back', async () => {
    const engine = new GatedEngine();
    const { http, runner, logs } = await createApp(platform, moduleWith({ engine, flushTimeout: 100, outbox: outbox({ lease: 1_000 }) }));
    engine.isAway = true;
    work = placing(() => runner);
    await http.post('/parameter/1').expect(201);
    await runner.onIdle();
    expect(logs.of('warn')).toEqual([expect.stringContaining('The engine accepts no tasks; they stay in the outbox until it does')]);
    engine.isAway = false;
    await engine.entries.atLeast(1);
    expect(engine.args).toEqual(['["1"]']);
    await logs.saying('The engine accepts tasks again');
  });

  it('the end of a task is known at the COMMIT: queued, or discarded', async () => {
    const engine = new GatedEngine();
    const { http, runner } = await createApp(platform, moduleWith({ engine, outbox: outbox() }));
    const ends: unknown[] = [];
    engine.taking = gate();
    work = async (tasks) => {
      for (const then of [() => undefined, payment]) {
        let task: BackgroundTask | undefined;
        const run: Work = (_, id) =>
          runner.transaction((join) =>
            inTransaction(pool, (client) =>
              join(fromPg(client), async () => {
                task = tasks.addTask(MailTasks.prototype.mail, id);
                then();
              }),
            ),
          );
        await run(tasks, 'a').catch(() => undefined);
        ends.push(await task?.ended);
      }
    };
    await http.post('/parameter/1').expect(201);
    expect(ends).toEqual(['queued', 'discarded']);
    engine.taking.open();
  });
});

describe('an outbox', () => {
  const saved = async (lease?: number): Promise<void> => {
    const its = outbox(lease === undefined ? {} : { lease });
    await its.open();
    await inTransaction(pool, async (client) => {
      await its.save(fromPg(client), [entry('1'), entry('2')]);
    });
  };
  const entry = (id: string): EngineEntry => ({
    id: randomUUID(),
    name: 'mail',
    provider: 'MailTasks',
    args: `["${id}"]`,
    timeout: undefined,
    trace: undefined,
    options: {},
  });

  it('what a process that died has left is handed over by another one, in order', async () => {
    await saved(1_000);
    const engine = new GatedEngine();
    await createApp('Express', moduleWith({ engine, outbox: outbox() }));
    await engine.entries.atLeast(2);
    expect(engine.args).toEqual(['["1"]', '["2"]']);
    while ((await ids('background_tasks_outbox')).length > 0);
  });

  it('two processes hand over what is left once', async () => {
    await saved(1_000);
    const engine = new GatedEngine();
    await Promise.all([1, 2].map(() => createApp('Express', moduleWith({ engine, outbox: outbox() }))));
    await engine.entries.atLeast(2);
    while ((await ids('background_tasks_outbox')).length > 0);
    expect(engine.args).toEqual(['["1"]', '["2"]']);
  });

  it('a task that the engine refuses is set aside, reported once, and does not hold the others up', async () => {
    await saved(1_000);
    const engine = new GatedEngine();
    engine.refusedArgs = '["1"]';
    const { runner, logs } = await createApp('Express', moduleWith({ engine, outbox: outbox({ lease: 1_000 }) }));
    await engine.entries.containing(...engine.entries.all);
    let count = 0;
    // Others are taken in the meantime, so that it is not the engine that is away.
    while (logs.of('error').length === 0) {
      await runner.within((tasks) => tasks.addTask(MailTasks.prototype.mail, `other ${++count}`));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(engine.args).toContain('["2"]');
    expect(logs.of('error')).toEqual([
      expect.stringMatching(/^Background task "mail" \([\w-]+\) is set aside in the outbox, as the engine refuses it/),
    ]);
    expect((await ids('background_tasks_outbox')).length).toBe(1);
  }, 30_000);

  it('a queue that refuses its tasks holds up no other queue, and its tasks are not set aside', async () => {
    @Injectable()
    class ThumbnailTasks {
      @BackgroundTask('thumbnail', { queue: 'thumbnails' })
      thumbnail(_file: string): void {}
    }
    const its = outbox({ lease: 1_000 });
    await its.open();
    const thumbnails = Array.from({ length: 250 }, (_, n) => ({ ...entry(`file ${n}`), name: 'thumbnail', queue: 'thumbnails' }));
    await inTransaction(pool, (client) => its.save(fromPg(client), [...thumbnails, entry('behind')]));
    const engine = new GatedEngine();
    engine.refusedQueue = 'thumbnails';
    const providers = [MailTasks, ThumbnailTasks];
    const { http, runner, logs } = await createApp('Express', moduleWith({ engine, outbox: outbox({ lease: 1_000 }) }, providers));
    while (!engine.args.includes('["behind"]')) await new Promise((resolve) => setImmediate(resolve));
    expect(logs.of('warn')).toEqual([expect.stringContaining('The engine accepts no tasks')]);
    // Not by a sweep.
    work = placing(() => runner);
    await http.post('/parameter/1').expect(201);
    await runner.onIdle();
    expect(engine.args.at(-1)).toBe('["1"]');
    engine.refusedQueue = undefined;
    await engine.entries.atLeast(252);
    expect(new Set(engine.args).size).toBe(252);
    expect(logs.of('error')).toEqual([]);
  }, 60_000);

  it('a shutdown while the engine is asked counts as no refusal', async () => {
    await saved(1_000);
    const engine = new GatedEngine();
    const asked = gate();
    let calls = 0;
    engine.enqueue = async (entries) => {
      if (!entries.some(({ args }) => args === '["1"]')) return;
      // Each sweep sends it with others, and then alone. It is set aside after the third refusal.
      if (++calls < 6) throw new Error('the engine does not like this');
      asked.open();
      await new Promise(() => undefined);
    };
    const { app, runner, logs } = await createApp('Express', moduleWith({ engine, outbox: outbox({ lease: 1_000 }) }));
    let isAsked = false;
    void asked.opened.then(() => (isAsked = true));
    while (!isAsked) {
      await runner.within((tasks) => tasks.addTask(MailTasks.prototype.mail, 'other'));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await app.close();
    expect(logs.of('error')).toEqual([]);
    const { rows } = await pool.query<{ reason: string | null }>('SELECT reason FROM background_tasks_outbox');
    expect(rows).toEqual([{ reason: null }]);
  }, 30_000);

  it('an engine that throws where it should reject leaves no rejection that nobody handles', async () => {
    await saved(1_000);
    const engine = new GatedEngine();
    const calls = new Recorder<number>();
    engine.enqueue = () => {
      calls.add(calls.all.length);
      throw new Error('not even a promise');
    };
    // Jest fails a test for every unhandledRejection.
    await createApp('Express', moduleWith({ engine, flushTimeout: 1, outbox: outbox({ lease: 1_000 }) }));
    // The fourth call is that of the next sweep, when the flushTimeout of the first ones is over.
    await calls.atLeast(4);
  });

  it('a savepoint that outlasts its transaction loses no task', async () => {
    const engine = new GatedEngine();
    const { runner, logs } = await createApp('Express', moduleWith({ scope: Scope.DEFAULT, engine, outbox: outbox() }));
    let ended = gate();
    let listener: Promise<unknown> = Promise.resolve();
    const transaction = (id: string, fails: boolean) =>
      runner.transaction((join) =>
        inTransaction(pool, (client) =>
          join(fromPg(client), async () => {
            await insert(client, id);
            // As a listener does that nobody awaits.
            listener = runner.within(async (tasks) => {
              tasks.addTask(MailTasks.prototype.mail, `before ${id}`);
              await ended.opened;
              tasks.addTask(MailTasks.prototype.mail, `after ${id}`);
            });
            if (fails) payment();
          }),
        ),
      );
    await transaction('1', false);
    ended.open();
    await listener;
    ended = gate();
    await transaction('2', true).catch(() => undefined);
    ended.open();
    await listener;
    await runner.onIdle();
    // Those that were added after it do not depend on it.
    expect(engine.args.toSorted((a, b) => a.localeCompare(b))).toEqual(['["after 1"]', '["after 2"]', '["before 1"]']);
    expect(logs.of('warn').filter((line) => line.includes('was added after its transaction was over'))).toHaveLength(2);
  });

  it('work that joins a transaction twice at once is refused', async () => {
    const engine = new GatedEngine();
    const { runner } = await createApp('Express', moduleWith({ engine, outbox: outbox() }));
    const add = (id: string) => async () => void runner.addTask(MailTasks.prototype.mail, id);
    const twice = runner.transaction((join) =>
      inTransaction(pool, (client) => Promise.all([join(fromPg(client), add('1')), join(fromPg(client), add('2'))])),
    );
    await expect(twice).rejects.toMatchObject({ code: 'BACKGROUND_TASK_INVALID_TASK', message: expect.stringContaining('`join`') });
    await runner.onIdle();
    expect([engine.args, await ids('background_tasks_outbox')]).toEqual([[], []]);
  });

  it('a task can be saved before the application has started', async () => {
    const engine = new GatedEngine();
    @Injectable()
    class Seed implements OnApplicationBootstrap {
      constructor(@Inject(BackgroundTasksRunner) private readonly runner: BackgroundTasksRunner) {}

      async onApplicationBootstrap(): Promise<void> {
        await this.runner.transaction((join) =>
          inTransaction(pool, (client) => join(fromPg(client), async () => void this.runner.addTask(MailTasks.prototype.mail, 'seed'))),
        );
      }
    }
    const { runner } = await createApp('Express', moduleWith({ engine, outbox: outbox() }, [MailTasks, Seed]));
    await runner.onIdle();
    expect(engine.args).toEqual(['["seed"]']);
  });

  it('`carry` that never settles holds a transaction for the flushTimeout at most', async () => {
    const engine = new GatedEngine();
    const carry = () => new Promise(() => undefined);
    const { runner } = await createApp('Express', moduleWith({ engine, outbox: outbox(), carry, flushTimeout: 50 }));
    const transaction = runner.transaction((join) =>
      inTransaction(pool, (client) => join(fromPg(client), async () => void runner.addTask(MailTasks.prototype.mail, '1'))),
    );
    await expect(transaction).rejects.toThrow('`carry` took longer than the flushTimeout of 50 ms');
  });

  it('onError is called outside of the transaction in which its task was added', async () => {
    const engine = new GatedEngine();
    const onError = (): void => {
      runner.addTask(() => log.push('reported'));
    };
    const { runner, logs } = await createApp('Express', moduleWith({ engine, outbox: outbox(), onError }));
    await runner.transaction((join) =>
      join(async () => {
        runner.addTask(() => Promise.reject(new Error('no such order')));
      }),
    );
    await runner.onIdle();
    expect(log).toEqual(['reported']);
    expect(logs.of('warn')).toEqual([]);
  });

  it('of several attempts, the one that is committed has its task handed over', async () => {
    const engine = new GatedEngine();
    const { runner } = await createApp('Express', moduleWith({ engine, outbox: outbox() }));
    await runner.within((tasks) =>
      runner.transaction(async (join) => {
        const attempt = (number: number) =>
          inTransaction(pool, (client) =>
            join(fromPg(client), async () => {
              tasks.addTask(MailTasks.prototype.mail, `attempt ${number}`);
              await insert(client, '1', number === 1 ? 'nobody' : undefined);
            }),
          );
        await attempt(1).catch(() => attempt(2));
      }),
    );
    await runner.onIdle();
    expect(engine.args).toEqual(['["attempt 2"]']);
  });

  it('a transaction that the database has aborted rejects when its task is saved, without the arguments of the task', async () => {
    const engine = new GatedEngine();
    const { runner } = await createApp('Express', moduleWith({ engine, outbox: outbox() }));
    const error: unknown = await runner
      .within((tasks) =>
        runner.transaction((join) =>
          inTransaction(pool, (client) =>
            join(fromPg(client), async () => {
              tasks.addTask(MailTasks.prototype.mail, 'secret');
              await client.query("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$").catch(() => undefined);
            }),
          ),
        ),
      )
      .catch((thrown: unknown) => thrown);
    // Postgres refuses every statement of a transaction that it has aborted.
    expect(error).toMatchObject({ code: 'BACKGROUND_TASK_OUTBOX', cause: { code: '25P02' } });
    expect(JSON.stringify(error, Object.getOwnPropertyNames(error))).not.toContain('secret');
    expect(engine.args).toEqual([]);
  });

  it('a task that is cancelled before the COMMIT is not saved', async () => {
    const engine = new GatedEngine();
    const { runner } = await createApp('Express', moduleWith({ engine, outbox: outbox() }));
    await runner.within((tasks) =>
      runner.transaction((join) =>
        inTransaction(pool, (client) => join(fromPg(client), async () => tasks.addTask(MailTasks.prototype.mail, 'a').cancel())),
      ),
    );
    await runner.onIdle();
    expect([engine.args, await ids('background_tasks_outbox')]).toEqual([[], []]);
  });

  it('a task that waits in the outbox is waiting, for any process', async () => {
    const engine = new GatedEngine();
    const { runner } = await createApp('Express', moduleWith({ engine, outbox: outbox() }));
    const other = await createApp('Express', moduleWith({ engine, outbox: outbox() }));
    engine.taking = gate();
    let id = '';
    await runner.within((tasks) =>
      runner.transaction((join) =>
        inTransaction(pool, (client) => join(fromPg(client), async () => ({ id } = tasks.addTask(MailTasks.prototype.mail, 'a')))),
      ),
    );
    const waiting = { id, name: 'mail', state: 'waiting', attempt: 1 };
    expect([await runner.state(id), await other.runner.state(id)]).toEqual([waiting, waiting]);
    engine.taking.open();
    await runner.onIdle();
    expect(await other.runner.state(id)).toBeUndefined();
  });

  it('a task of a transaction runs outside of it, also if a module has added one at boot', async () => {
    @Injectable()
    class Boot implements OnModuleInit {
      constructor(@Inject(BackgroundTasksRunner) private readonly runner: BackgroundTasksRunner) {}

      async onModuleInit(): Promise<void> {
        await this.runner.transaction((join) => join(async () => void this.runner.addTask(() => undefined)));
      }
    }
    const { runner, logs } = await createApp('Express', moduleWith({ scope: Scope.DEFAULT }, [MailTasks, Boot]));
    await runner.transaction((join) => join(async () => void runner.addTask(() => void runner.addTask(() => log.push('inner')))));
    await runner.onIdle();
    expect(log).toEqual(['inner']);
    expect(logs.of('warn')).toEqual([]);
  });

  it('tasks without the client of their transaction go to the engine after the COMMIT, with a warning', async () => {
    const engine = new GatedEngine();
    const { runner, logs } = await createApp('Express', moduleWith({ engine, outbox: outbox() }));
    await runner.within((tasks) =>
      runner.transaction((join) => inTransaction(pool, () => join(() => tasks.addTask(MailTasks.prototype.mail, 'a')))),
    );
    await runner.onIdle();
    expect(engine.args).toEqual(['["a"]']);
    expect(logs.of('warn')).toEqual([expect.stringContaining('without the client of the transaction')]);
  });

  describe('shutdown', () => {
    it('hands over what is committed', async () => {
      const engine = new GatedEngine();
      const { app, runner, logs } = await createApp('Express', moduleWith({ engine, outbox: outbox() }));
      engine.taking = gate();
      await runner.within((tasks) => placing(() => runner)(tasks, '1'));
      const closed = app.close();
      engine.taking.open();
      await closed;
      expect([engine.args, await ids('background_tasks_outbox'), logs.of('warn')]).toEqual([['["1"]'], [], []]);
    });

    it('leaves to other processes what the engine does not take in time, and says what', async () => {
      const engine = new GatedEngine();
      const { app, runner, logs } = await createApp('Express', moduleWith({ engine, outbox: outbox(), shutdownTimeout: 50 }));
      engine.taking = gate();
      await runner.within((tasks) => placing(() => runner)(tasks, '1'));
      await app.close();
      expect((await ids('background_tasks_outbox')).length).toBe(1);
      expect(logs.of('warn')).toEqual([expect.stringMatching(/stay in the outbox: "mail"/)]);
      engine.taking.open();
    });

    it('a transaction that outlasts it keeps its task: both are committed', async () => {
      const engine = new GatedEngine();
      const { app, runner } = await createApp('Express', moduleWith({ engine, outbox: outbox(), shutdownTimeout: 20 }));
      const [added, end] = [gate(), gate()];
      const placed = runner.within((tasks) =>
        placing(
          () => runner,
          () => {
            added.open();
            return end.opened;
          },
        )(tasks, '1'),
      );
      await added.opened;
      await app.close();
      end.open();
      await placed;
      expect([await ids('orders'), (await ids('background_tasks_outbox')).length]).toEqual([['1'], 1]);
    });
  });

  describe('health()', () => {
    it('tells that the table is gone', async () => {
      const { runner } = await createApp('Express', moduleWith({ engine: new GatedEngine(), outbox: outbox() }));
      expect(await runner.health()).toEqual({ ok: true, engine: { sends: true }, outbox: { works: true } });
      await pool.query('ALTER TABLE background_tasks_outbox RENAME TO elsewhere');
      try {
        expect(await runner.health()).toMatchObject({
          ok: false,
          outbox: { works: false, problem: expect.stringContaining('background_tasks_outbox') },
        });
      } finally {
        await pool.query('ALTER TABLE elsewhere RENAME TO background_tasks_outbox');
      }
    });
  });

  describe('misuse', () => {
    it.each<[string, BackgroundTasksRootOptions, Type[], string]>([
      ['an outbox without an engine', { outbox: {} as BackgroundTasksOutbox }, [MailTasks], 'an outbox, such as'],
      ['a table that is missing', { engine: new GatedEngine() }, [MailTasks], 'CREATE TABLE'],
    ])('%s is refused at boot', async (what, options, providers, message) => {
      const itsOutbox = what.includes('missing') ? sqlOutbox(fromPg(pool), { table: 'nowhere' }) : options.outbox;
      await expect(createApp('Express', moduleWith({ ...options, outbox: itsOutbox }, providers))).rejects.toThrow(message);
    });

    it('an outbox without an engine is refused', async () => {
      await expect(async () => createApp('Express', moduleWith({ outbox: outbox() }))).rejects.toThrow(
        '`outbox` of BackgroundTasksModule needs an engine',
      );
    });

    it('an adapter whose plugin is older than 3.2 is refused, with the version to install', () => {
      const adapter = transactionalTasks({ optionsFactory: () => ({ getFallbackInstance: () => undefined }) });
      expect(() => adapter.optionsFactory()).toThrow('needs @nestjs-cls/transactional 3.2 or later');
    });

    it('`once` without an outbox is refused', async () => {
      await expect(createApp('Express', moduleWith({ engine: new GatedEngine() }, [OnceTasks]))).rejects.toThrow(
        '`once` of @BackgroundTask("order-mail") needs an outbox',
      );
    });
  });
});

/** The order mail that is written down in the transaction of the task. */
let onceWork: (id: string) => Promise<unknown>;

@Injectable()
class OnceTasks {
  @BackgroundTask('order-mail', { once: true })
  async send(id: string): Promise<void> {
    await onceWork(id);
  }
}

describe('once: true', () => {
  /** An engine that runs a job as often as the test says. */
  class RunningEngine extends GatedEngine {
    host!: EngineHost;
    override work(host?: EngineHost): undefined {
      if (host) this.host = host;
    }
    run(job: Pick<EngineJob, 'id' | 'args'>): Promise<void> {
      return this.host.run(
        { name: 'order-mail', provider: 'OnceTasks', timeout: undefined, trace: undefined, attempt: 1, ...job },
        new AbortController().signal,
      );
    }
  }

  async function start() {
    const engine = new RunningEngine();
    const app = await createApp('Express', moduleWith({ engine, outbox: outbox() }, [OnceTasks]));
    const write = (id: string, then: () => unknown = () => undefined) =>
      app.runner.transaction((join) =>
        inTransaction(pool, (client) =>
          join(fromPg(client), async () => {
            log.push(currentTask()!.name);
            await insert(client, id);
            await then();
          }),
        ),
      );
    return { ...app, engine, write };
  }

  it('a second run of a task that is done does not call it', async () => {
    const { engine, write, logs } = await start();
    onceWork = (id) => write(id);
    const job = { id: randomUUID(), args: '["1"]' };
    await engine.run(job);
    await engine.run(job);
    expect([log, await ids('orders'), logs.of('error')]).toEqual([['order-mail'], ['1'], []]);
  });

  it('a run that goes on after its timeout writes nothing that the next run has written', async () => {
    const engine = new RunningEngine();
    const { runner } = await createApp('Express', moduleWith({ engine, outbox: outbox(), timeout: 50 }, [OnceTasks]));
    const goesOn = gate();
    const ended = new Recorder<string>();
    const write = (id: string) =>
      runner.transaction((join) => inTransaction(pool, (client) => join(fromPg(client), () => insert(client, id))));
    let runs = 0;
    onceWork = async (id) => {
      const isFirst = ++runs === 1;
      if (isFirst) await goesOn.opened;
      await write(`${id} by run ${isFirst ? 1 : 2}`).catch((error: Error) => ended.add(error.message));
      ended.add('ended');
    };
    const job = { id: randomUUID(), args: '["1"]' };
    await expect(engine.run(job)).rejects.toThrow('timeout');
    await engine.run(job);
    goesOn.open();
    await ended.atLeast(3);
    expect(await ids('orders')).toEqual(['1 by run 2']);
    expect(ended.all).toContainEqual(expect.stringContaining('another run has committed'));
  });

  it('a run that cannot ask the database at the deadline of a shutdown has not failed', async () => {
    const engine = new RunningEngine();
    const its = outbox();
    const asked = gate();
    let fail: (error: Error) => void = () => undefined;
    its.isDone = () => {
      asked.open();
      return new Promise((_, reject) => (fail = reject));
    };
    await createApp('Express', moduleWith({ engine, outbox: its }, [OnceTasks]));
    const deadline = new AbortController();
    const job = {
      id: randomUUID(),
      name: 'order-mail',
      provider: 'OnceTasks',
      args: '["1"]',
      timeout: undefined,
      trace: undefined,
      attempt: 1,
    };
    const run = engine.host.run(job, deadline.signal);
    await asked.opened;
    deadline.abort('the application shuts down');
    fail(new Error('the database is away'));
    await expect(run).rejects.toMatchObject({ code: 'BACKGROUND_TASK_SHUTDOWN' });
  });

  it('a task in process that it adds does not take the mark', async () => {
    const { engine, runner } = await start();
    onceWork = async (id) => {
      if (log.length === 0) {
        const audit = runner.addTask(() =>
          runner.transaction((join) => inTransaction(pool, (client) => join(fromPg(client), () => insert(client, `audit ${id}`)))),
        );
        await audit.ended;
        log.push('failed');
        throw new Error('the mail server is busy');
      }
      log.push('ran');
      await runner.transaction((join) => inTransaction(pool, (client) => join(fromPg(client), () => insert(client, id))));
    };
    const job = { id: randomUUID(), args: '["1"]' };
    await expect(engine.run(job)).rejects.toThrow('busy');
    await runner.onIdle();
    await engine.run(job);
    expect([log, await ids('orders')]).toEqual([
      ['failed', 'ran'],
      ['1', 'audit 1'],
    ]);
  });

  it('a transaction that Postgres has aborted is not done', async () => {
    const { engine, runner } = await start();
    onceWork = (id) =>
      runner.transaction((join) =>
        inTransaction(pool, (client) =>
          join(fromPg(client), async () => {
            await insert(client, id, 'nobody').catch(() => undefined);
            await client.query('SELECT 1 / 0').catch(() => undefined);
          }),
        ),
      );
    const job = { id: randomUUID(), args: '["1"]' };
    await expect(engine.run(job)).rejects.toThrow('aborted');
    expect([await ids('orders'), await ids('background_tasks_outbox_done')]).toEqual([[], []]);
  });

  it('of two runs at once, one writes, and both end as completed', async () => {
    const { engine, write, logs } = await start();
    const both = gate();
    let started = 0;
    onceWork = async (id) => {
      if (++started === 2) both.open();
      await both.opened;
      await write(id);
    };
    const job = { id: randomUUID(), args: '["1"]' };
    await Promise.all([engine.run(job), engine.run(job)]);
    expect([started, await ids('orders'), logs.of('error')]).toEqual([2, ['1'], []]);
  });

  it('a run whose transaction is rolled back leaves the task to the next attempt', async () => {
    const { engine, write } = await start();
    onceWork = (id) => write(id, payment);
    const job = { id: randomUUID(), args: '["1"]' };
    await expect(engine.run(job)).rejects.toThrow('the payment fails');
    onceWork = (id) => write(id);
    await engine.run(job);
    expect(await ids('orders')).toEqual(['1']);
  });

  it('the first transaction alone is written once', async () => {
    const { engine, write } = await start();
    onceWork = async (id) => {
      await write(`${id}-first`);
      await write(`${id}-second`);
    };
    const job = { id: randomUUID(), args: '["1"]' };
    await engine.run(job);
    await engine.run(job);
    expect(await ids('orders')).toEqual(['1-first', '1-second']);
  });

  it('a task that opens no transaction is told in the log', async () => {
    const { engine, logs } = await start();
    onceWork = async () => undefined;
    // One line for all of them.
    for (let runs = 0; runs < 3; runs++) await engine.run({ id: randomUUID(), args: '["1"]' });
    expect(logs.of('error')).toEqual([expect.stringContaining('"order-mail" has `once`, but opened no transaction')]);
  });

  it('with an engine that runs tasks, in a request', async () => {
    const engine = inProcessEngine();
    const { http, runner } = await createApp('Express', moduleWith({ engine, outbox: outbox() }, [OnceTasks]));
    onceWork = (id) =>
      runner.transaction((join) => inTransaction(pool, (client) => join(fromPg(client), () => insert(client, `${id}-mail`))));
    work = (tasks, id) =>
      runner.transaction((join) =>
        inTransaction(pool, (client) =>
          join(fromPg(client), async () => {
            await insert(client, id);
            tasks.addTask(OnceTasks.prototype.send, id);
          }),
        ),
      );
    await http.post('/parameter/1').expect(201);
    await runner.onIdle();
    await engine.onIdle();
    expect(await ids('orders')).toEqual(['1', '1-mail']);
  });
});
