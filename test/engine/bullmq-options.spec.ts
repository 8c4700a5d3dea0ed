// Public API: bullmqEngine() refuses options that cannot work, and shows no password.
import { createRequire } from 'node:module';
import { describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { Pool } from 'pg';
import { BackgroundTasksError } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { assertBullmq, bullmqVersion } from '../../lib/bullmq/workarounds.js';

const connection = 'redis://127.0.0.1:6379';
const postgres = 'postgres://127.0.0.1/app';

describe('bullmqEngine()', () => {
  it.each([
    ['a URL', { connection }],
    ['a URL with TLS', { connection: 'rediss://cache.example.com:6380/1' }],
    ['options of ioredis', { connection: { host: '127.0.0.1', port: 6379 } }],
    ['a URL of Postgres', { connection: postgres, backend: () => ({}) }],
    ['a process that only adds tasks', { connection, worker: false }],
    ['a function that returns a client', { connection: () => new Redis({ lazyConnect: true }) }],
    ['settings of queues', { connection, queues: { thumbnails: { concurrency: 2 }, mails: false } }],
    ['how long tasks are kept', { connection, keep: { completed: 300_000, failed: 90 * 24 * 3_600_000 } }],
    ['replicas of Redis', { connection, replicas: 1 }],
    ['no replicas on Postgres', { connection: postgres, backend: () => ({}), replicas: 0 }],
    ['settings of the worker', { connection, queue: 'mail', worker: { concurrency: 1, maxStalledCount: 0 } }],
  ] as const)('takes %s', (_, options) => {
    expect(() => bullmqEngine(options)).not.toThrow();
  });

  it.each([
    ['no connection', {}, 'the option `connection` of bullmqEngine() to be a URL that begins with redis:'],
    ['an empty URL, of a variable that is not set', { connection: '' }, 'the option `connection` of bullmqEngine()'],
    ['what is no URL', { connection: 'localhost' }, 'the option `connection` of bullmqEngine()'],
    ['a URL of something else', { connection: 'http://127.0.0.1:6379' }, 'the option `connection` of bullmqEngine()'],
    ['a client of ioredis', { connection: new Redis({ lazyConnect: true }) }, 'the option `connection` of bullmqEngine()'],
    ['a pool of pg', { connection: new Pool() }, 'a new client of ioredis, and not a client or a pool'],
    ['a queue that BullMQ refuses', { connection, queue: 'a:b' }, 'the option `queue` of bullmqEngine() to be a name without a colon'],
    ['a worker that is no settings', { connection, worker: true }, 'the option `worker` of bullmqEngine() to be false or an object'],
    [
      'tasks that are forgotten too soon',
      { connection, keep: { completed: 60_000 } },
      '`completed` of `keep` of bullmqEngine() to be milliseconds, an integer from 300000, as a task that is removed sooner may be handed over and run again',
    ],
    ['failed tasks that are forgotten too soon', { connection, keep: { failed: 0 } }, '`failed` of `keep` of bullmqEngine()'],
    [
      'queues that BullMQ refuses',
      { connection, queues: { 'a:b': {} } },
      'a key of `queues` of bullmqEngine() to be a name without a colon',
    ],
    [
      'a queue that is no settings',
      { connection, queues: { mails: true } },
      '`queues["mails"]` of bullmqEngine() to be false or an object',
    ],
    [
      'no concurrency of a queue',
      { connection, queues: { mails: { concurrency: 0 } } },
      '`concurrency` of `queues["mails"]` of bullmqEngine()',
    ],
    ['no concurrency', { connection, worker: { concurrency: 0 } }, '`concurrency` of `worker` of bullmqEngine() to be an integer from 1'],
    ['an unknown setting', { connection, worker: { limiter: {} } }, 'Unknown option `limiter` of `worker` of bullmqEngine()'],
    ['an unknown option', { connection, prefix: 'x' }, 'Unknown option `prefix` of bullmqEngine()'],
    ['half a replica', { connection, replicas: 0.5 }, 'the option `replicas` of bullmqEngine() to be an integer from 0'],
    [
      'replicas of Postgres',
      { connection: postgres, backend: () => ({}), replicas: 1 },
      'The option `replicas` of bullmqEngine() is for Redis. On Postgres, set `synchronous_standby_names` on the server instead',
    ],
    [
      'a prefix of ioredis, with which tasks run several times',
      { connection: { host: '127.0.0.1', keyPrefix: 'staging:' } },
      'The option `keyPrefix` of `connection` of bullmqEngine() is refused: BullMQ would run tasks several times. For environments that share a ' +
        'server, give each its own `queue` (on Postgres, its own `connection.schema`)',
    ],
    ['a prefix in the URL of options', { connection: { url: `${connection}?keyPrefix=a` } }, 'The option `keyPrefix` of `connection`'],
    ['a prefix in the URL', { connection: `${connection}?keyPrefix=staging:` }, 'The option `keyPrefix` of `connection`'],
    [
      'numbers as text, with which a worker mistakes the reply of an empty queue for a task',
      { connection: { host: '127.0.0.1', stringNumbers: true } },
      'The option `stringNumbers` of `connection` of bullmqEngine() is refused: BullMQ would mistake the reply of an empty queue for a task',
    ],
    [
      'types of pg, with which acknowledged tasks fail',
      { connection: { connectionString: postgres, types: { getTypeParser: () => String } }, backend: () => ({}) },
      'The option `types` of `connection` of bullmqEngine() is refused: BullMQ would misread the arguments of tasks, and acknowledged ' +
        'tasks would fail',
    ],
    [
      'answers of pg in binary',
      { connection: { host: '127.0.0.1', binary: true }, backend: () => ({}) },
      'The option `binary` of `connection`',
    ],
    ['answers in binary in the URL', { connection: `${postgres}?binary=true`, backend: () => ({}) }, 'The option `binary` of `connection`'],
    ['nothing', undefined, 'the options of bullmqEngine() to be an object'],
  ])('refuses %s', (_, options, message) => {
    const make = () => Reflect.apply(bullmqEngine, undefined, [options]);
    expect(make).toThrow(BackgroundTasksError);
    expect(make).toThrow(expect.objectContaining({ code: 'BACKGROUND_TASK_INVALID_OPTION', message: expect.stringContaining(message) }));
  });

  it('shows no password in what it says', () => {
    expect(() => bullmqEngine({ connection: 'http://user:hunter2@127.0.0.1' })).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('hunter2') }),
    );
  });

  it.each([
    ['6.0.0', {}, '6.3.3 or later, as the workers of earlier 6 versions never recover', 'bullmq@^6.3.3'],
    ['6.3.2', {}, '6.3.3 or later', 'bullmq@^6.3.3'],
    ['5.63.2', {}, '5.64.0 or later, or 6', 'bullmq@6'],
    ['5.81.2', { sentinels: [{ host: 'a' }] }, '5.81.3 or later for `sentinels`', 'bullmq@^5.81.3'],
  ])('refuses BullMQ %s with %j, and says what to install', (version, options, needed, install) => {
    expect(() => assertBullmq(options, version)).toThrow(
      expect.objectContaining({
        code: 'BACKGROUND_TASK_MISSING_PACKAGE',
        message: expect.stringMatching(
          new RegExp(`needs BullMQ ${needed}.*, but found ${version}: npm install ${install.replace('^', '\\^')}$`),
        ),
      }),
    );
  });

  it.each([
    ['6.3.3', { sentinels: [{ host: 'a' }] }],
    ['6.10.0', {}],
    ['5.64.0', {}],
    ['5.81.3', { sentinels: [{ host: 'a' }] }],
  ])('takes BullMQ %s with %j', (version, options) => {
    expect(() => assertBullmq(options, version)).not.toThrow();
  });

  it('knows the version of the BullMQ that is there', () => {
    const { version } = createRequire(import.meta.url)('bullmq/package.json') as { version: string };
    expect(bullmqVersion()).toBe(version);
  });
});
