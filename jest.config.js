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
  '^nestjs-background-tasks/outbox$': '<rootDir>/lib/outbox/index.ts',
  '^nestjs-background-tasks/testing$': '<rootDir>/lib/testing/index.ts',
  '^nestjs-background-tasks/opentelemetry$': '<rootDir>/lib/opentelemetry/index.ts',
  '^(\\.{1,2}/.*)\\.js$': '$1',
  // Mercurius requires one that is an ES module, which jest cannot do on Node 20.
  '^(content-disposition)$': '<rootDir>/node_modules/$1',
};

/**
 * Specs that run on Nest 12 alone. They boot an application, as every spec does, but a version of Nest cannot change what they show; the code of
 * Nest that they pass through is shown on both versions by the specs beside them.
 */
const independentOfNest = [
  // Processes, servers, connections and BullMQ: the engine behind its port. On both: engine, named-tasks, port and transports.
  'engine/(away|bullmq-options|chaos|cluster|dead-connection|failover|group-commit|observability|operating|options-and-state|postgres-production|rolling-deploy|worker)',
  // Databases and the libraries for them: the outbox behind its port.
  'outbox/(clients|sql-outbox)',
  // Tasks and lists once they are made: their states, what they call and return, what they publish. No request of Nest has a part in it.
  'http/(kept-task|kept-task-elsewhere|list-made-by-hand)',
  'outcome/(around|diagnostics-channel|log-bounds|task-results)',
  // It stands for a version of Nest that is neither of the two. The specs that it runs once more have their own run on both.
  'http/ordinary-interceptor',
  // The runner drops thousands of tasks in slices. The hooks of Nest that lead there are in the other specs of this folder.
  'shutdown/many-tasks',
  // Errors of decorators and factories, thrown where a class is declared.
  'module/misuse',
  // Pages for users of the current version: databases, platforms, engines and tests beside Nest. What Nest itself says stays on both.
  'engine/guide',
  'guides/(coming-from-bullmq|compared|testing-guide|transactions|tried-again|troubleshooting-map|what-a-task-may-use)',
  // The databases of the outbox. How tasks follow transactions of nestjs-cls stays on both.
  'outbox/(clients|kills|outbox|sql-outbox)',
  // Samples, likewise. On both: the first ones that a reader meets, the shutdown of a process, messages, and the one that has it all.
  'samples/(cpu-work|engine|fastify|files|fire-and-forget|multi-tenant|opentelemetry|recipes|serverless|too-busy|upload-progress)',
];

/** What the engine does, on the oldest BullMQ that it works with. */
const oldestBullmq = {
  ...shared,
  displayName: 'bullmq 5',
  testMatch: ['<rootDir>/test/engine/{engine,worker,operating,rolling-deploy,dead-connection,replicas}.spec.ts'],
  moduleNameMapper: { '^bullmq$': '<rootDir>/node_modules/bullmq-5', ...lightMyRequest, ...sources },
};

export default {
  // A full garbage collection, or the start of a process, takes its time on a loaded machine.
  testTimeout: 30_000,
  // Many specs of the engine mostly wait: three workers keep two cores busy.
  maxWorkers: 3,
  // Jest keeps the ES modules of each spec: without a new process now and then, it spends its time in garbage collection.
  workerIdleMemoryLimit: '700MB',
  reporters: ['default', './test/support/compatibility.js'],
  projects: [
    { ...shared, displayName: 'nest 12', moduleNameMapper: { ...lightMyRequest, ...sources } },
    {
      ...shared,
      displayName: 'nest 11',
      testPathIgnorePatterns: [...shared.testPathIgnorePatterns, ...independentOfNest.map((spec) => `/test/${spec}\\.spec\\.ts$`)],
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
