// Guarantee 12: an order and its task are both there or neither, whatever is killed. A small run of benchmarks/outbox-kills.ts.
import { describe, expect, it } from '@jest/globals';
import { notTested, ownBackends } from '../support/backends.js';
import { outboxTrial } from '../support/outbox-trial.js';

if (notTested(ownBackends).length > 0) it.skip.each(notTested(ownBackends))('%s', () => undefined);

describe.each(ownBackends)('an outbox in Postgres, and an engine on $name', (backend) => {
  it('kills of the API, of the worker, of the database and of the engine lose no task, and double none', async () => {
    const program = [process.execPath, '--import', './test/support/typescript.js', './test/support/outbox.app.ts'];
    const trial = { backend, program, clients: 8, apiKills: 2, workerKills: 1, databaseStops: 1, engineAway: 2_000 };
    const { orders, answersWhileAway, ...wrong } = await outboxTrial(trial);
    expect(wrong).toEqual({ ordersWithoutMail: 0, mailsWithoutOrder: 0, doubledMails: 0 });
    expect(Object.keys(answersWhileAway)).toEqual(['201']);
    expect(orders).toBeGreaterThan(30);
  }, 240_000);
});
