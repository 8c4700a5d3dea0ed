import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import * as bullmq from 'bullmq';
import { Client, Pool } from 'pg';
import { BackgroundTask, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { RecordedLogs } from '../support/app.js';
import { startProxy } from '../support/proxy.js';
import { Recorder } from '../support/recorder.js';
import { type Server, startPostgres } from '../support/servers.js';

// The claims of docs/engine.md about Postgres in production.

let ran: Recorder<string>;

@Injectable()
class WorkTasks {
  @BackgroundTask('work')
  work(id: string): void {
    ran.add(id);
  }
}

describe('Postgres in production', () => {
  let server: Server;
  let admin: Pool;

  beforeAll(async () => {
    server = await startPostgres();
    admin = new Pool({ connectionString: server.url });
    admin.on('error', () => undefined);
  }, 30_000);

  afterAll(async () => {
    await admin.end();
    await server.remove();
  });

  beforeEach(() => {
    ran = new Recorder();
  });

  async function start(connection: object, queue = 'work') {
    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({
            engine: bullmqEngine({
              connection: { connectionString: server.url, ...connection },
              backend: bullmq.createPostgresBackend,
              queue,
            }),
          }),
        }),
      ],
      providers: [WorkTasks],
    })
    class AppModule {}

    const logs = new RecordedLogs();
    const app = await NestFactory.createApplicationContext(AppModule, { logger: logs, abortOnError: false });
    const runner = app.get(BackgroundTasksRunner);
    const add = (...ids: string[]): Promise<void> =>
      runner.within((tasks) => ids.forEach((id) => void tasks.addTask(WorkTasks.prototype.work, id)));
    return { app, add, runner, logs };
  }

  it('a role that may not CREATE sends and runs tasks with the rights that the guide names', async () => {
    const schema = 'restricted';
    const client = await admin.connect();
    await bullmq.runMigrations(client, schema);
    client.release();
    await admin.query(`
      CREATE ROLE app LOGIN;
      REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC;
      GRANT TEMPORARY ON DATABASE postgres TO app;
      SELECT ${schema}.next_job_id('work');
      GRANT USAGE ON SCHEMA ${schema} TO app;
      GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO app;
      GRANT USAGE ON ALL SEQUENCES IN SCHEMA ${schema} TO app;
      GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ${schema} TO app;
    `);
    const url = new URL(server.url);
    url.username = 'app';
    const { app, add } = await start({ connectionString: url.href, schema });
    await add('a', 'b');
    await ran.containing('a', 'b');
    await app.close();
  }, 30_000);

  it('several replicas that migrate at once all start', async () => {
    const replicas = await Promise.all([1, 2, 3, 4].map(() => start({ migrate: true, schema: 'replicas' })));
    await Promise.all(replicas.map(({ add }, index) => add(`r${index}`)));
    await ran.containing('r0', 'r1', 'r2', 'r3');
    await Promise.all(replicas.map(({ app }) => app.close()));
  }, 60_000);

  // Those of the worker, one that waits for tasks, and those of the sender, which has a pool of its own.
  it.each([
    ['a process has 12 connections at most', {}, 10 + 1 + 1],
    ['`max: 2` limits them to 5', { max: 2 }, 2 + 1 + 2],
  ])(
    '%s',
    async (title, options, most) => {
      const role = `role_${most}`;
      await admin.query(`CREATE ROLE ${role} LOGIN SUPERUSER`);
      const url = new URL(server.url);
      url.username = role;
      const { app, add } = await start({ connectionString: url.href, migrate: true, schema: role, ...options });
      const ids = Array.from({ length: 200 }, (_, id) => `${title} ${id}`);
      // Each is a request of its own.
      await Promise.all(ids.map((id) => add(id)));
      await ran.containing(...ids);
      // The pools keep their connections for 10 seconds.
      const { rows } = await admin.query<{ count: number }>('SELECT count(*)::int AS count FROM pg_stat_activity WHERE usename = $1', [
        role,
      ]);
      expect(rows[0]!.count).toBeGreaterThan(1);
      expect(rows[0]!.count).toBeLessThanOrEqual(most);
      await app.close();
    },
    60_000,
  );

  it('goes on after an administrator has ended its connections (57P01)', async () => {
    const { app, add } = await start({ migrate: true, schema: 'ended' });
    await add('before');
    await ran.containing('before');
    await admin.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
    );
    await add('after');
    await ran.containing('after');
    await app.close();
  }, 60_000);

  it('goes on after a failover behind its address, whose connections stay on a server that is read-only now (25006)', async () => {
    const next = await startPostgres();
    const proxy = await startProxy(server.url);
    const [setUp, early, late] = [next.url, server.url, server.url].map((url) => new Client({ connectionString: url })) as [
      Client,
      Client,
      Client,
    ];
    await setUp.connect();
    await bullmq.runMigrations(setUp, 'bullmq');
    await setUp.end();
    await early.connect();
    const { app, add } = await start({ connectionString: proxy.url, migrate: true });
    await add('before');
    await ran.containing('before');
    proxy.redirect(next.url);
    await late.connect();
    await early.query('ALTER SYSTEM SET default_transaction_read_only = on');
    await early.query('SELECT pg_reload_conf()');
    // The server tells its connections one by one, in their order: those of the application are between these two. A task that it takes
    // before that is on the former primary alone.
    for (const client of [early, late]) while (!(await isReadOnly(client)));
    await add('after');
    await ran.containing('after');
    await app.close();
    await early.query('ALTER SYSTEM RESET default_transaction_read_only');
    await early.query('SELECT pg_reload_conf()');
    await Promise.all([early.end(), late.end(), proxy.close()]);
    await next.remove();
  }, 60_000);
});

async function isReadOnly(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ transaction_read_only: string }>('SHOW transaction_read_only');
  return rows[0]!.transaction_read_only === 'on';
}
