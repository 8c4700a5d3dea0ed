import { Comparison, printTargets, quick } from './support/compare.js';
import { closeClient, startPeers } from './support/http.js';

// The cost of a request for the server, by the way the notification is sent.

const applications = {
  'bare route': { name: 'bare/Bare', tasks: 0 },
  'no-op global interceptor': { name: 'bare/NoOpGlobalInterceptor', tasks: 0 },
  'nestjs-cls mounted': { name: 'cls/ClsMounted', tasks: 0 },
  '`setImmediate` by hand': { name: 'by-hand/SetImmediateByHand', tasks: 1 },
  '@nestjs/event-emitter': { name: 'event-emitter/EventEmitter', tasks: 1 },
  'careful version by hand': { name: 'by-hand/CarefulByHand', tasks: 1 },
  'module imported, route without list': { name: 'package/OnAnotherRoute', tasks: 0 },
  '`@BackgroundTasks()`, no task': { name: 'package/ParameterNoTask', tasks: 0 },
  '`@BackgroundTasks()`, one task': { name: 'package/Parameter', tasks: 1 },
  'the same, an engine configured': { name: 'package/ParameterBesideEngine', tasks: 1 },
  'request-scoped `setImmediate`': { name: 'by-hand/PlainRequestScoped', tasks: 1 },
  'the same, and a no-op global interceptor': { name: 'by-hand/PlainRequestScopedIntercepted', tasks: 1 },
  'request-scoped careful version': { name: 'by-hand/CarefulRequestScoped', tasks: 1 },
  'injected `BackgroundTasks`, one task': { name: 'package/Injected', tasks: 1 },
  'injected, through ten providers': { name: 'request-scope/ThroughTen', tasks: 1 },
  '`Scope.DEFAULT`, through one provider': { name: 'default-scope/ThroughOne', tasks: 1 },
  '`Scope.DEFAULT`, through ten providers': { name: 'default-scope/ThroughTen', tasks: 1 },
};

const CPU = 'CPU µs/request';

/** How many processes there are of each application, one after the other. */
const PROCESSES = 3;

/** On Node 24. */
const goals = {
  express: { untouched: '1.08', parameter: '1.20', besideInterceptor: '0.90', injected: '1.10', defaultScope: '1.25' },
  fastify: { untouched: '1.08', parameter: '1.05', besideInterceptor: '0.85', injected: '1.10', defaultScope: '1.15' },
};

for (const platform of ['express', 'fastify'] as const) {
  const comparison = await Comparison.ofProcesses(`Request overhead, ${platform}`, quick ? 1 : PROCESSES, () =>
    startPeers(platform, applications, { amount: quick ? 1000 : 3000, connections: 16 }),
  );
  comparison.print(CPU, 'bare route');
  const against = (name: keyof typeof applications, peer: keyof typeof applications): [string, string] => [
    `${name} / ${peer}`,
    comparison.ratio(name, peer, CPU),
  ];
  const goal = goals[platform];
  printTargets([
    [...against('module imported, route without list', 'bare route'), goal.untouched],
    [...against('`@BackgroundTasks()`, one task', 'bare route'), goal.parameter],
    [...against('`@BackgroundTasks()`, one task', 'no-op global interceptor'), goal.besideInterceptor],
    [...against('injected `BackgroundTasks`, one task', 'request-scoped `setImmediate`'), goal.injected],
    [...against('`Scope.DEFAULT`, through one provider', 'bare route'), goal.defaultScope],
    [...against('the same, an engine configured', '`@BackgroundTasks()`, one task'), '1.00'],
    [...against('`@BackgroundTasks()`, no task', 'no-op global interceptor'), ''],
    [...against('`@BackgroundTasks()`, one task', 'careful version by hand'), ''],
    [...against('injected `BackgroundTasks`, one task', 'the same, and a no-op global interceptor'), ''],
    [...against('injected `BackgroundTasks`, one task', 'request-scoped careful version'), ''],
    [...against('`Scope.DEFAULT`, through one provider', '`@BackgroundTasks()`, one task'), ''],
    [...against('`Scope.DEFAULT`, through ten providers', '`Scope.DEFAULT`, through one provider'), ''],
  ]);
}

await closeClient();
