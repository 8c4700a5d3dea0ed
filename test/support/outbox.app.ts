import { Controller, Injectable, Module, Param, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Pool, type PoolClient } from 'pg';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { fromPg, sqlOutbox } from 'nestjs-background-tasks/outbox';
import { engineOn, ownBackends } from './backends.js';
import { inTransaction } from './transaction.js';

// The API and the worker that outbox-trial.ts starts and kills. The API places an order and its mail in one transaction; the worker writes
// the mail.

const [role, backendName, engineUrl, databaseUrl, queue] = process.argv.slice(2) as ['api' | 'worker', string, string, string, string];
const backend = ownBackends.find(({ name }) => name === backendName)!;
const pool = new Pool({ connectionString: databaseUrl, max: 20, connectionTimeoutMillis: 5_000 });
// A database that is stopped ends connections, also those of transactions that are between two statements.
pool.on('error', () => undefined);
pool.on('connect', (client) => client.on('error', () => undefined));

@Injectable()
class Transactions {
  constructor(private readonly runner: BackgroundTasksRunner) {}

  run(work: (client: PoolClient) => Promise<unknown>): Promise<void> {
    return this.runner.transaction((join) =>
      inTransaction(pool, async (client) => {
        await join(fromPg(client), () => work(client));
      }),
    );
  }
}

@Injectable()
class MailTasks {
  constructor(private readonly transactions: Transactions) {}

  @BackgroundTask('order-mail', { once: true, attempts: 1_000, backoff: 200 })
  async send(order: string): Promise<void> {
    await this.transactions.run((client) => client.query('INSERT INTO mails VALUES ($1)', [order]));
  }
}

class PaymentFailed extends Error {}

@Controller()
class OrdersController {
  constructor(
    private readonly transactions: Transactions,
    private readonly mail: MailTasks,
  ) {}

  /** A payment that fails rolls the order back, and the client is told so with an answer that is no error. */
  @Post('orders/:id')
  async place(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    try {
      await this.transactions.run(async (client) => {
        await client.query('INSERT INTO orders VALUES ($1)', [id]);
        tasks.addTask(this.mail.send, id);
        if (id.startsWith('unpaid')) throw new PaymentFailed();
      });
      return { placed: true };
    } catch (error) {
      if (error instanceof PaymentFailed) return { placed: false };
      throw error;
    }
  }
}

@Module({
  imports: [
    BackgroundTasksModule.forRoot({
      engine: engineOn(backend, engineUrl, {
        queue,
        worker: role === 'worker' && { concurrency: 10, lockDuration: 1_000, stalledInterval: 500 },
      }),
      outbox: sqlOutbox(fromPg(pool), { lease: 1_000, migrate: true }),
      flushTimeout: 2_000,
    }),
  ],
  controllers: role === 'api' ? [OrdersController] : [],
  providers: [Transactions, MailTasks],
})
class AppModule {}

const app = await NestFactory.create(AppModule, { logger: false, abortOnError: false });
app.enableShutdownHooks();
if (role === 'api') await app.listen(0, '127.0.0.1');
else await app.init();
process.stdout.write(`ready ${role === 'api' ? await app.getUrl() : ''}\n`);
