import { ModulesContainer } from '@nestjs/core';
import type { OutboxClient } from '../engine/outbox.js';
import { Transaction, type TransactionSource, runTransaction } from '../engine/transactions.js';
import { type TransactionHost, transactionHostClass } from '../nest-internals/modules.js';
import { BackgroundTasksError } from '../task/errors.js';
import { invalid } from '../task/validation.js';

/** An adapter of `@nestjs-cls/transactional`. Its own types are not imported, as the package may not be installed. */
export interface TransactionalAdapter<Tx = unknown> {
  optionsFactory(...args: never[]): { getFallbackInstance(): Tx };
}

/** The type of the transactions of an adapter. */
export type TxOf<Adapter> = Adapter extends TransactionalAdapter<infer Tx> ? Tx : never;

type Work = () => Promise<unknown>;

/** The part of an adapter that the plugin uses. It calls these methods on an object that also has the name of the connection. */
interface Adapter<Tx> {
  optionsFactory(connection: unknown, extraProviders?: unknown[]): AdapterOptions<Tx>;
  extraProviderTokens?: unknown[];
}

interface AdapterOptions<Tx> {
  wrapWithTransaction: (options: unknown, func: Work, setTx: (tx?: Tx) => void) => Promise<unknown>;
  wrapWithNestedTransaction?: (options: unknown, func: Work, setTx: (tx?: Tx) => void, tx: Tx) => Promise<unknown>;
}

interface MergedOptions {
  readonly connectionName?: string | undefined;
}

/**
 * Makes tasks follow the transactions of an adapter of `@nestjs-cls/transactional`: a task that is added in a transaction and runs on
 * success starts after the COMMIT, and is discarded on a rollback, even if the exception is caught. Savepoints, `REQUIRES_NEW` and
 * `withoutTransaction()` are respected.
 *
 * @param from makes the client with which an outbox saves the tasks for an engine, such as `fromTypeOrm`. Required with an outbox.
 * @returns the adapter
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION` for anything but an adapter
 * @example
 * ```ts
 * new ClsPluginTransactional({ adapter: transactionalTasks(new TransactionalAdapterTypeOrm({ … }), fromTypeOrm) });
 * ```
 */
export function transactionalTasks<Given extends TransactionalAdapter>(
  adapter: Given,
  from?: (tx: NonNullable<TxOf<Given>>) => OutboxClient,
): Given {
  const given: unknown = adapter;
  if (!isAdapter<TxOf<Given>>(given)) {
    throw invalid(
      'BACKGROUND_TASK_INVALID_OPTION',
      'the first argument of transactionalTasks()',
      'an adapter of @nestjs-cls/transactional',
      adapter,
    );
  }
  if (from !== undefined && typeof from !== 'function') {
    throw invalid('BACKGROUND_TASK_INVALID_OPTION', 'the second argument of transactionalTasks()', 'a function such as fromTypeOrm', from);
  }
  // Patched in place, as its class may have private fields.
  const optionsFactory = given.optionsFactory.bind(given);
  given.optionsFactory = (connection, extraProviders = []) => {
    const modules = extraProviders.pop();
    if (!(modules instanceof ModulesContainer)) throw tooOld();
    Transaction.expectedIn(modules);
    return withTasks(optionsFactory(connection, extraProviders), from, modules);
  };
  given.extraProviderTokens = [...(given.extraProviderTokens ?? []), ModulesContainer];
  return adapter;
}

/** @see https://github.com/Papooch/nestjs-cls: from 3.2 on, the plugin passes an adapter the providers that it asks for. */
function tooOld(): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_MISSING_PACKAGE',
    'transactionalTasks() needs @nestjs-cls/transactional 3.2 or later: npm install @nestjs-cls/transactional@latest',
  );
}

function isAdapter<Tx>(value: unknown): value is Adapter<Tx> {
  return typeof value === 'object' && value !== null && 'optionsFactory' in value && typeof value.optionsFactory === 'function';
}

function withTasks<Tx>(
  options: AdapterOptions<Tx>,
  from: ((tx: NonNullable<Tx>) => OutboxClient) | undefined,
  modules: ModulesContainer,
): AdapterOptions<Tx> {
  const { wrapWithTransaction, wrapWithNestedTransaction } = options;
  const wrapped: AdapterOptions<Tx> = {
    ...options,
    async wrapWithTransaction(this: MergedOptions, settings, func, setTx) {
      let client: OutboxClient | undefined;
      const noteTx = (tx?: Tx): void => {
        client = tx == null ? undefined : from?.(tx);
        setTx(tx);
      };
      const run = (work: Work): Promise<unknown> => Reflect.apply(wrapWithTransaction, this, [settings, work, noteTx]);
      const { result } = await runTransaction(
        undefined,
        (join) => run(() => (client ? join(client, func) : join(func))),
        sourceOf(modules, this),
      );
      return result;
    },
  };
  // An own property, as the plugin requires one.
  if (wrapWithNestedTransaction) {
    wrapped.wrapWithNestedTransaction = function (this: MergedOptions, settings, func, setTx, tx) {
      const outer = Transaction.innermostOf(sourceOf(modules, this));
      // Around the whole savepoint, as its RELEASE may fail.
      const nested = (): Promise<unknown> => Reflect.apply(wrapWithNestedTransaction, this, [settings, func, setTx, tx]);
      return outer ? outer.savepoint(nested) : nested();
    };
  }
  return wrapped;
}

const sources = new WeakMap<TransactionHost, TransactionSource>();

function sourceOf(modules: ModulesContainer, { connectionName }: MergedOptions): TransactionSource | undefined {
  const host = transactionHostClass(modules)?.getInstance(connectionName);
  if (!host) return undefined;
  let source = sources.get(host);
  if (!source) {
    source = {
      isActive: () => host.isTransactionActive(),
      runOutside: (func) => host.withoutTransaction(async () => func()),
    };
    sources.set(host, source);
  }
  return source;
}
