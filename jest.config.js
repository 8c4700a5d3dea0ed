import { spawnSync } from 'node:child_process';

/** BullMQ 5 has Redis alone. */
const hasRedis = 'REDIS_URL' in process.env || spawnSync('redis-server', ['--version']).status === 0;

const shared = {
  testMatch: ['<rootDir>/test/**/*.spec.ts', '<rootDir>/lib/**/*.spec.ts'],
  testPathIgnorePatterns: ['/node_modules/'],
  extensionsToTreatAsEsm: ['.ts'],
  transform: { '\\.ts$': '@swc/jest' },
};

/** `inject()` needs it, and from 6.8 on it requires an ES module, which Jest cannot do before Node 24.9. */
const lightMyRequest = { '^(light-my-request)$': '<rootDir>/test/nest-11/node_modules/$1' };

const sources = {
  '^nestjs-background-tasks$': '<rootDir>/lib/index.ts',
  '^nestjs-background-tasks/bullmq$': '<rootDir>/lib/bullmq/index.ts',
  '^nestjs-background-tasks/opentelemetry$': '<rootDir>/lib/opentelemetry/index.ts',
  '^(\\.{1,2}/.*)\\.js$': '$1',
  // Mercurius requires one that is an ES module, which jest cannot do on Node 20.
  '^(content-disposition)$': '<rootDir>/node_modules/$1',
};

/** What the engine does, on the oldest BullMQ that it works with. */
const oldestBullmq = {
  ...shared,
  displayName: 'bullmq 5',
  testMatch: ['<rootDir>/test/engine/{engine,worker,operating,dead-connection}.spec.ts'],
  moduleNameMapper: { '^bullmq$': '<rootDir>/node_modules/bullmq-5', ...lightMyRequest, ...sources },
};

export default {
  // A full garbage collection, or the start of a process, takes its time on a loaded machine.
  testTimeout: 30_000,
  // Jest keeps the ES modules of each spec: without a new process now and then, it spends its time in garbage collection.
  maxWorkers: 2,
  workerIdleMemoryLimit: '700MB',
  reporters: ['default', './test/support/compatibility.js'],
  projects: [
    { ...shared, displayName: 'nest 12', moduleNameMapper: { ...lightMyRequest, ...sources } },
    {
      ...shared,
      displayName: 'nest 11',
      // What becomes of processes and servers has nothing to do with the version of Nest.
      testPathIgnorePatterns: [...shared.testPathIgnorePatterns, '/engine/(away|chaos|dead-connection)\\.spec'],
      moduleNameMapper: {
        // One version of each of these is for both.
        '^(@nestjs/(?!(?:event-emitter|jwt|schedule|terminus|typeorm)$).*|rxjs|rxjs/.*|reflect-metadata)$':
          '<rootDir>/test/nest-11/node_modules/$1',
        ...sources,
      },
    },
    ...(hasRedis ? [oldestBullmq] : []),
  ],
};
