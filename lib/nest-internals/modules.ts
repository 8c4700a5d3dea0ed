import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Logger, Scope, type Type } from '@nestjs/common';
import { type ModulesContainer, NestApplicationContext } from '@nestjs/core';

/** Nest's object for a module of the application. */
export type NestModule = ReturnType<ModulesContainer['get']> & object;

/** Nest's object for a provider. */
export type ProviderWrapper = NestModule extends { providers: Map<unknown, infer Wrapper> } ? Wrapper : never;

/**
 * Makes a module shut down before all others. Nest runs the hooks of modules by their distance from the root module, and those of global
 * modules last: the user's database would be closed by then.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/nest-application-context.ts `getModulesToTriggerHooksOn`
 * @returns The resulting limitation if Nest does not keep the distance; undefined otherwise.
 */
export function shutDownFirst(modules: ModulesContainer, metatype: Type): string | undefined {
  const ours = [...modules.values()].filter((module) => module.metatype === metatype);
  for (const module of ours) Reflect.set(module, 'distance', -1);
  if (ours.every(({ distance }) => distance === -1)) return undefined;
  return 'a shutdown may close databases before the tasks that use them have ended: close yours in `onApplicationShutdown()`';
}

/**
 * True if Nest creates a single instance of a provider.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/injector/instance-wrapper.ts `isDependencyTreeStatic`
 */
export function isSingleton(wrapper: ProviderWrapper): boolean {
  if (wrapper.scope === Scope.TRANSIENT) return false;
  // Without the method, a provider that depends on a request-scoped one cannot be recognised.
  return typeof wrapper.isDependencyTreeStatic === 'function' ? wrapper.isDependencyTreeStatic() : wrapper.scope !== Scope.REQUEST;
}

const LIMITATION = 'a task that awaits `app.close()` may make the shutdown take its whole `shutdownTimeout`';

const closeListeners = new WeakMap<object, () => void>();
const wrapped = new WeakSet<object>();

/** The part of an application context that `close()` needs. `container` is protected. */
interface Context {
  readonly container?: { getModules(): ModulesContainer };
}

/**
 * Calls a listener, in the async context of the caller, when code calls `close()` of the application that has these modules. Nest 12 calls
 * no hook for further calls once a shutdown is in progress.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/nest-application-context.ts `close`
 * @returns The resulting limitation if `close()` cannot be replaced; undefined otherwise.
 */
export function onCloseCalled(modules: ModulesContainer, listener: () => void): string | undefined {
  closeListeners.set(modules, listener);
  const { prototype } = NestApplicationContext;
  if (wrapped.has(prototype)) return undefined;
  const close: NestApplicationContext['close'] | undefined = Reflect.get(prototype, 'close');
  if (typeof close !== 'function') return LIMITATION;
  const replaced = function (this: NestApplicationContext & Context, ...args: Parameters<NestApplicationContext['close']>): Promise<void> {
    const container = this.container;
    if (container) closeListeners.get(container.getModules())?.();
    return close.apply(this, args);
  };
  if (!Reflect.set(prototype, 'close', replaced)) return LIMITATION;
  wrapped.add(prototype);
  return undefined;
}

/** The property in which Nest's `Logger` keeps the logger of `app.useLogger()`. */
const LOGGER_IN_USE = 'staticInstanceRef';

/**
 * True if Nest's `Logger` passes lines to the logger of nestjs-pino, which writes `error(fields, message, context)` as one line with these
 * fields. It is recognised by its members, as a bundler may have renamed it. Its `NativeLogger` takes the arguments of Nest's own logger.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/common/services/logger.service.ts `staticInstanceRef`
 * @see https://github.com/iamolegga/nestjs-pino/blob/5.2.1/src/Logger.ts `call`
 */
export function loggerTakesFields(): boolean {
  const logger: unknown = Reflect.get(Logger, LOGGER_IN_USE);
  if (typeof logger !== 'object' || logger === null || !('contextName' in logger) || 'getContextAndMessagesToPrint' in logger) return false;
  const { logger: pino } = logger as { logger?: unknown };
  return typeof pino === 'object' && pino !== null && 'trace' in pino && 'assign' in pino;
}

/** The limitation if Nest does not tell which logger is in use. */
export function loggerUnknown(): string | undefined {
  return LOGGER_IN_USE in Logger ? undefined : 'nestjs-pino gets the name of a task as a part of the message, and not as a field';
}

const warned = new Set<string>();

/** One warning for every difference between Nest and what this package expects. It is logged once per process. */
export function internalsWarning(limitations: readonly (string | undefined)[]): string | undefined {
  const lines = limitations.filter((limitation) => limitation !== undefined);
  const key = lines.join();
  if (lines.length === 0 || warned.has(key)) return undefined;
  warned.add(key);
  return (
    `This version of Nest (@nestjs/core ${nestVersion()}) differs from those that nestjs-background-tasks was tested with, 11 and 12. ` +
    `Tasks run, but with these limitations:\n${lines.map((line) => `  ${line}\n`).join('')}Update nestjs-background-tasks, or report this`
  );
}

function nestVersion(): string {
  try {
    const { version } = createRequire(join(process.cwd(), 'package.json'))('@nestjs/core/package.json') as { version: string };
    return version;
  } catch {
    return 'of unknown version';
  }
}

/** The `TransactionHost` of a connection. It knows whether the current code is in a transaction. */
export interface TransactionHost {
  isTransactionActive(): boolean;
  withoutTransaction<Result>(func: () => Promise<Result>): Promise<Result>;
}

interface TransactionHostClass {
  readonly prototype: TransactionHost;
  getInstance(connectionName: string | undefined): TransactionHost;
}

const transactionHostClasses = new WeakMap<ModulesContainer, TransactionHostClass>();

/**
 * The class `TransactionHost` of `@nestjs-cls/transactional`, if the application has the plugin. It is not imported: most applications do
 * not have it, and a bundler would try to resolve it.
 */
export function transactionHostClass(modules: ModulesContainer): TransactionHostClass | undefined {
  const found = transactionHostClasses.get(modules);
  if (found) return found;
  for (const { providers } of modules.values()) {
    for (const { metatype } of providers.values()) {
      if (!isTransactionHostClass(metatype)) continue;
      transactionHostClasses.set(modules, metatype);
      return metatype;
    }
  }
  return undefined;
}

/** Recognised by its members, as a bundler may have renamed it. */
function isTransactionHostClass(metatype: unknown): metatype is TransactionHostClass {
  if (typeof metatype !== 'function' || !('getInstance' in metatype)) return false;
  const { prototype } = metatype as { prototype?: unknown };
  return typeof prototype === 'object' && prototype !== null && 'isTransactionActive' in prototype && 'withoutTransaction' in prototype;
}
