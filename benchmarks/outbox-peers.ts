import { randomUUID } from 'node:crypto';
import { Controller, Get, Injectable, Module, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { Pool, type PoolClient } from 'pg';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { fromPg, sqlOutbox } from 'nestjs-background-tasks/outbox';
import { engineOn, ownBackends } from '../test/support/backends.js';
import { inTransaction } from '../test/support/transaction.js';
import { serve } from './support/child.js';

// The child process of outbox.ts: a Fastify route that places an order in a transaction, with a task that the engine gets before the
// response, or through the outbox.

const [peer, database, engineUrl, databaseUrl] = process.argv.slice(2) as [string, string, string, string];
const backend = ownBackends.find(({ name }) => name === database)!;
const pool = new Pool({ connectionString: databaseUrl, max: 20 });

const insert = (client: PoolClient): Promise<unknown> => client.query('INSERT INTO orders VALUES ($1)', [randomUUID()]);

@Injectable()
class MailTasks {
  @BackgroundTask('mail', { attempts: 3, backoff: { type: 'exponential', delay: 1_000 } })
  async mail(_to: string, _subject: string): Promise<void> {}
}

@Controller()
class OrdersController {
  constructor(
    private readonly mails: MailTasks,
    private readonly runner: BackgroundTasksRunner,
  ) {}

  @Get('mail')
  async place(@BackgroundTasks() tasks: BackgroundTasks) {
    if (peer === 'group commit') {
      await inTransaction(pool, insert);
      tasks.addTask(this.mails.mail, 'ada@example.com', 'Welcome');
      return 'answer';
    }
    await this.runner.transaction((join) =>
      inTransaction(pool, (client) =>
        join(fromPg(client), async () => {
          await insert(client);
          tasks.addTask(this.mails.mail, 'ada@example.com', 'Welcome');
        }),
      ),
    );
    return 'answer';
  }
}

function moduleOf(queue: string): Type {
  @Module({
    imports: [
      BackgroundTasksModule.forRoot({
        engine: engineOn(backend, engineUrl, { queue, worker: false }),
        outbox: peer === 'outbox' ? sqlOutbox(fromPg(pool), { migrate: true }) : undefined,
      }),
    ],
    controllers: [OrdersController],
    providers: [MailTasks],
  })
  class OrdersModule {}
  return OrdersModule;
}

let stop: () => Promise<void>;

serve({
  start: async () => {
    const app = await NestFactory.create(moduleOf(`queue-${randomUUID()}`), new FastifyAdapter(), { logger: ['warn', 'error'] });
    app.enableShutdownHooks();
    await app.listen(0, '127.0.0.1');
    stop = () => app.close();
    return `${await app.getUrl()}/mail`;
  },
  cpu: () => {
    const { user, system } = process.cpuUsage();
    return user + system;
  },
  stop: () => stop(),
});
