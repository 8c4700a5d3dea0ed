// Guarantee 12: tasks follow the transactions of @nestjs-cls/transactional. On Postgres, with TypeORM.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Pool } from 'pg';
import { isNest12 } from '../support/app.js';
import { type Server, startPostgres } from '../support/servers.js';

let postgres: Server;

beforeAll(async () => {
  postgres = await startPostgres();
  const pool = new Pool({ connectionString: postgres.url });
  await pool.query('CREATE TABLE orders (id text PRIMARY KEY, parent text REFERENCES orders DEFERRABLE INITIALLY DEFERRED)');
  await pool.end();
}, 60_000);

afterAll(() => postgres.remove());

interface Outcome {
  /** For each task: the orders that it saw, outside the transaction in which it was added. */
  readonly log: readonly string[];
  readonly ends: readonly string[];
}

const completed: Outcome = { log: ['a is there'], ends: ['a completed'] };
const discarded: Outcome = { log: [], ends: ['a discarded'] };

const expected: Readonly<Record<string, Outcome>> = {
  committed: completed,
  'committed by the caller of a method that joins': completed,
  'committed, and the request fails': completed,
  'rolled back, and caught': discarded,
  'the commit fails': discarded,
  'aborted by a statement that fails, which is caught': discarded,
  'a savepoint that is kept, and one that is rolled back': {
    log: ['a is there', 'b is there'],
    ends: ['a completed', 'b completed', 'c discarded'],
  },
  'a savepoint that cannot be released': { log: ['a is there'], ends: ['a completed', 'b discarded'] },
  'a savepoint that is kept, in a transaction that is rolled back': { log: [], ends: ['a discarded', 'b discarded'] },
  'REQUIRES_NEW, in a transaction that is rolled back': { log: ['b is there'], ends: ['a discarded', 'b completed'] },
  'withoutTransaction, in a transaction that is rolled back': { log: ['b is there'], ends: ['a discarded', 'b completed'] },
  'cancelled before the commit': { log: ['a is there'], ends: ['a completed', 'b cancelled'] },
  "runOn: 'always', in a transaction that is rolled back": { log: ['always ran'], ends: ['a discarded'] },
  'two transactions side by side, of which one is rolled back': { log: ['a is there'], ends: ['a completed', 'b discarded'] },
};

async function run(...args: string[]): Promise<{ outcomes: Readonly<Record<string, Outcome>>; warnings: readonly string[] }> {
  const program = ['--import', './test/support/typescript.js', './test/support/adapter.app.ts', ...args];
  const env = { ...process.env, NODE_OPTIONS: '', NEST: isNest12 ? '12' : '11' };
  const { stdout } = await promisify(execFile)(process.execPath, program, { env });
  return JSON.parse(stdout) as Awaited<ReturnType<typeof run>>;
}

it('an outbox, and an adapter that is not wrapped: a warning at boot says what to do', async () => {
  const { warnings } = await run('Express', 'REQUEST', postgres.url, 'unwrapped');
  expect(warnings).toEqual([
    expect.stringMatching(/`outbox` is set, but .* Wrap the adapter of ClsPluginTransactional, as in `transactionalTasks\(/),
  ]);
}, 60_000);

describe.each(['Express', 'Fastify'])('transactionalTasks(), on %s', (platform) => {
  describe.each(['REQUEST', 'DEFAULT'])('Scope.%s', (scope) => {
    let outcomes: Readonly<Record<string, Outcome>>;
    let warnings: readonly string[];

    beforeAll(async () => {
      ({ outcomes, warnings } = await run(platform, scope, postgres.url));
    }, 60_000);

    describe.each(['parameter', 'injected'])('%s list', (list) => {
      it.each(Object.entries(expected))('%s', (scenario, outcome) => {
        expect(outcomes[`${list}/${scenario}`]).toEqual(outcome);
      });
    });

    it('a guard', () => {
      expect(outcomes.guard).toEqual({ log: ['b is there'], ends: ['a discarded', 'b completed'] });
    });

    if (scope === 'DEFAULT') {
      it('a listener of events', () => {
        expect(outcomes.listener).toEqual({
          log: ['a is there', 'b is not there'],
          ends: ['a completed', 'b completed', 'c discarded', 'd discarded'],
        });
      });
    }

    it('no warning', () => {
      expect(warnings).toEqual([]);
    });
  });
});
