import { isMainThread } from 'node:worker_threads';
import { Scope } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import type { ResolvedEngineOptions } from '../engine/options.js';
import { Transaction } from '../engine/transactions.js';
import { type ProviderWrapper as Wrapper, transactionHostClass } from '../nest-internals/modules.js';
import { type RequestScopedUser, requestScopedUsers } from '../nest-internals/request-scoped-users.js';
import { BackgroundTasks } from '../request/background-tasks.js';
import { SEVERAL_COPIES, otherCopies } from '../request/context.js';
import type { Runner } from '../runner/runner.js';
import { BackgroundTasksError } from '../task/errors.js';

const HOOKS = ['onModuleInit', 'onApplicationBootstrap', 'onModuleDestroy', 'beforeApplicationShutdown', 'onApplicationShutdown'];

/**
 * Decorators that do not work in a request-scoped class. They are found by a metadata key on the class or one of its methods, and by the
 * value if other decorators use the key, too.
 */
const DECORATORS: readonly { key: string; value?: string; problem: string; evenOnPurpose?: true }[] = [
  { key: 'websockets:is_gateway', problem: '@WebSocketGateway() is for singletons' },
  { key: 'bullmq:processor_metadata', problem: '@Processor() is for singletons' },
  { key: 'bull:module_queue', problem: '@Processor() is for singletons' },
  { key: 'SCHEDULER_TYPE', problem: '@Cron(), @Interval() or @Timeout() is for singletons' },
  { key: 'EVENT_LISTENER_METADATA', problem: '@OnEvent() is for singletons' },
  { key: 'graphql:resolver_type', value: 'Subscription', problem: '@Subscription() is for singletons' },
  // @nestjs/cqrs 11 and 12 register their own `AsyncContext` as the REQUEST of a command or a query, and nothing for an event.
  {
    key: '__commandHandler__',
    problem: '@CommandHandler() has no request, so `addTask()` throws BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
    evenOnPurpose: true,
  },
  {
    key: '__queryHandler__',
    problem: '@QueryHandler() has no request, so `addTask()` throws BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
    evenOnPurpose: true,
  },
  { key: '__eventsHandler__', problem: '@EventsHandler() has no request, so its tasks start at once or are refused', evenOnPurpose: true },
  { key: '__saga__', problem: '@Saga() is for singletons: @nestjs/cqrs does not start' },
];

const SINGLETON = '`BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })`';
const PARAMETER =
  'take the list as a parameter of the handler, `@BackgroundTasks() tasks: BackgroundTasks`, and pass it on, or get it with ' +
  '`BackgroundTasks.of(context)`';

/**
 * The warning about classes that became request-scoped by injecting `BackgroundTasks` and do not work that way. Nest itself is silent: it
 * calls no hooks and registers no jobs. Returns `undefined` if there are none.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_UNSUPPORTED_CONTEXT` if one of them is a Passport strategy; TypeError if this version of
 * Nest lacks a property that this check reads.
 */
export function requestScopedWarning(modules: ModulesContainer): string | undefined {
  const users = requestScopedUsers(modules, BackgroundTasks);
  refuseStrategies(users);
  const lines = new Set(users.flatMap((user) => lineOf(user) ?? []));
  if (lines.size === 0) return undefined;
  return (
    'Injecting BackgroundTasks makes a class, and every class that injects it, request-scoped. This affects:\n' +
    `${[...lines].map((line) => `  ${line}\n`).join('')}` +
    `Configure ${SINGLETON}: you then inject a singleton that follows the request, and nothing becomes request-scoped. Or do not inject ` +
    `the list there: ${PARAMETER}`
  );
}

/** A strategy registers itself with Passport in its constructor. Nest would call that too late, after the guard that needs the strategy. */
function refuseStrategies(users: readonly RequestScopedUser[]): void {
  const paths = users.filter(({ path: [user] }) => becameRequestScoped(user) && isStrategy(user)).map(nameOf);
  if (paths.length === 0) return;
  throw new BackgroundTasksError(
    'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
    `A request-scoped Passport strategy is never registered, and injecting BackgroundTasks makes these request-scoped: ${[...new Set(paths)].join(', ')}. ` +
      `Configure ${SINGLETON}, or do not inject the list there: ${PARAMETER}`,
  );
}

function lineOf(user: RequestScopedUser): string | undefined {
  const problem = user.globalToken ? problemOfGlobal(user) : problemsOf(user.path[0]).join('; ');
  return problem ? `${nameOf(user)}: ${problem}` : undefined;
}

function problemOfGlobal({ isInjectable, dependents }: RequestScopedUser): string | undefined {
  // From 11.2.8 and 12.1.3 on, Nest itself refuses to start with such an enhancer.
  if (!isInjectable) return 'Nest never creates it, so requests fail; with `scope: Scope.REQUEST`, all controllers become request-scoped';
  if (dependents.length === 0) return undefined;
  const classes = dependents.length === 1 ? '1 class' : `${dependents.length} classes`;
  const singletons = dependents.filter((dependent) => problemsOf(dependent).length > 0).map(({ name }) => String(name));
  const verb = singletons.length === 1 ? 'needs to be a singleton' : 'need to be singletons';
  const harm = singletons.length === 0 ? '' : `; ${listed(singletons)} ${verb}`;
  return `it makes every controller and resolver request-scoped (${classes})${harm}`;
}

/** Lists the first few names, as an application may have hundreds. */
function listed(names: readonly string[]): string {
  return names.length > 5 ? `${names.slice(0, 5).join(', ')} and ${names.length - 5} more` : names.join(', ');
}

/** For example `APP_GUARD RolesGuard → UsersService → BackgroundTasks`. */
function nameOf({ path: [user, ...others], globalToken }: RequestScopedUser): string {
  return [globalToken ? globalNameOf(user, globalToken) : String(user.name), ...others.map(({ name }) => String(name))].join(' → ');
}

function globalNameOf({ inject, isAlias, name }: Wrapper, token: string): string {
  if (inject == null) return `${token} ${String(name)}`;
  return `${token} (${isAlias ? 'useExisting' : 'useFactory'})`;
}

/** True if its dependencies made it request-scoped, not its own declaration. */
function becameRequestScoped({ scope, isAlias }: Wrapper): boolean {
  return scope !== Scope.REQUEST && !isAlias;
}

function isStrategy(user: Wrapper): boolean {
  return 'getPassportInstance' in (classOf(user)?.prototype ?? {});
}

/** The features of a class that stop working when it becomes request-scoped. */
function problemsOf(user: Wrapper): string[] {
  const madeClass = classOf(user);
  if (!madeClass) return [];
  const { prototype } = madeClass;
  const targets = [madeClass, ...methodsOf(prototype)];
  const isAccident = becameRequestScoped(user);
  const hooks = isAccident ? HOOKS.filter((hook) => hook in prototype) : [];
  const decorators = DECORATORS.filter(
    ({ key, value, evenOnPurpose }) => (isAccident || evenOnPurpose) && targets.some((target) => hasMetadata(target, key, value)),
  );
  return [
    ...(hooks.length > 0 ? [`its ${hooks.map((hook) => `${hook}()`).join(', ')} will not be called`] : []),
    ...decorators.map(({ problem }) => problem),
  ];
}

/** The class of the instance that Nest creates. For a factory, the class is known only if it is the token. */
function classOf({ metatype, inject, isAlias, token }: Wrapper): (Function & { prototype: object }) | undefined {
  const made: unknown = inject == null ? metatype : token;
  return typeof made === 'function' && typeof made.prototype === 'object' && made.prototype !== null && !isAlias ? made : undefined;
}

function hasMetadata(target: object, key: string, value: string | undefined): boolean {
  return value === undefined ? Reflect.hasMetadata(key, target) : Reflect.getMetadata(key, target) === value;
}

function methodsOf(prototype: object): object[] {
  const methods: object[] = [];
  for (let link: object | null = prototype; link && link !== Object.prototype; link = Object.getPrototypeOf(link)) {
    for (const { value } of Object.values(Object.getOwnPropertyDescriptors(link))) if (typeof value === 'function') methods.push(value);
  }
  return methods;
}

/** Platforms that freeze a process once it has answered, by an environment variable that they set. */
const PLATFORMS = {
  AWS_LAMBDA_FUNCTION_NAME: 'AWS Lambda',
  VERCEL: 'Vercel',
  FUNCTION_TARGET: 'Google Cloud Functions',
  K_SERVICE: 'Google Cloud Run, unless its CPU is always allocated',
};

/** The warning about a platform that may freeze the process before its tasks have run, unless an option prevents that. */
export function serverlessWarning({ options, hasEngine }: Runner, environment: NodeJS.ProcessEnv): string | undefined {
  if (options.waitUntil || hasEngine) return undefined;
  const platform = freezingPlatform(environment);
  return (
    platform &&
    `Background tasks may be delayed or lost here (${platform}): the process is frozen once it has answered. Configure \`waitUntil\` or an ` +
      '`engine`, or await `BackgroundTasksRunner#onIdle()` before the function returns, and say so with `waitUntil: () => undefined`. See ' +
      'https://github.com/nestjs-background-tasks/nestjs-background-tasks/blob/main/docs/serverless.md'
  );
}

function freezingPlatform(environment: NodeJS.ProcessEnv): string | undefined {
  return Object.entries(PLATFORMS).find(([variable]) => environment[variable])?.[1];
}

/**
 * The warning about a server that SIGTERM would end at once. Platforms that freeze their processes do not send it, and worker threads do
 * not get it.
 */
export function signalsWarning({ options }: Runner, environment: NodeJS.ProcessEnv): string | undefined {
  if (options.waitUntil || !isMainThread || freezingPlatform(environment) || process.listenerCount('SIGTERM') > 0) return undefined;
  return (
    'Nothing in this process listens for SIGTERM, which ends it at once: tasks that wait or run then are lost. Call `app.enableShutdownHooks()` in ' +
    'main.ts, and the application finishes them first'
  );
}

/** The warning about several copies of this package. */
export function copiesWarning(): string | undefined {
  const copies = otherCopies();
  return copies.length > 0 ? `${SEVERAL_COPIES}: ${copies.join(', ')}` : undefined;
}

/** The warning about an outbox that gets no tasks, because the adapter of `@nestjs-cls/transactional` is not wrapped. */
export function unwrappedAdapterWarning(modules: ModulesContainer, { outbox }: ResolvedEngineOptions): string | undefined {
  if (!outbox || !transactionHostClass(modules) || Transaction.areExpectedIn(modules)) return undefined;
  return (
    'The option `outbox` is set, but tasks do not follow the transactions of @nestjs-cls/transactional, so the outbox gets none of them. Wrap the ' +
    'adapter of ClsPluginTransactional, as in `transactionalTasks(new TransactionalAdapterTypeOrm({ … }), fromTypeOrm)`'
  );
}
