import type { Scope } from '@nestjs/common';
import { ENGINE_DEFAULTS, ENGINE_EXPECTATIONS, type EngineOptions, type ResolvedEngineOptions, needsEngine } from '../engine/options.js';
import { RUNNER_DEFAULTS, RUNNER_EXPECTATIONS, type ResolvedRunnerOptions, type RunnerOptions } from '../runner/options.js';
import { BackgroundTasksError } from '../task/errors.js';
import { type Expectations, validated } from '../task/validation.js';

/** The options of an application: what the factory of `BackgroundTasksModule.forRootAsync()` returns. */
export interface BackgroundTasksModuleOptions extends RunnerOptions, EngineOptions {}

/** What Nest has to know before it makes anything: in `forRootAsync()`, it goes beside the factory. */
export interface BackgroundTasksModuleExtras {
  /** Whether `BackgroundTasks` can be injected in modules that do not import this one. @default true */
  isGlobal?: boolean | undefined;
  /**
   * `Scope.DEFAULT` injects a singleton that follows the request through an `AsyncLocalStorage`, so that nothing which injects it becomes
   * request-scoped. @default Scope.REQUEST
   */
  scope?: Scope.REQUEST | Scope.DEFAULT | undefined;
}

/** All that `BackgroundTasksModule.forRoot()` takes. */
export interface BackgroundTasksRootOptions extends BackgroundTasksModuleOptions, BackgroundTasksModuleExtras {}

/** Module options with their defaults filled in. */
export interface ResolvedOptions extends ResolvedRunnerOptions, ResolvedEngineOptions {}

/** The injection token of what the application passed to `forRoot` or `forRootAsync`. */
export const MODULE_OPTIONS = Symbol('BackgroundTasksModuleOptions');

/** The injection token of the scope that it passed beside them. */
export const MODULE_SCOPE = Symbol('BackgroundTasksModuleScope');

const DEFAULTS: ResolvedOptions = { ...RUNNER_DEFAULTS, ...ENGINE_DEFAULTS };

const EXPECTATIONS: Expectations<BackgroundTasksModuleOptions> = { ...RUNNER_EXPECTATIONS, ...ENGINE_EXPECTATIONS };

/**
 * The application's options, validated, with their defaults.
 *
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function resolveOptions(options: unknown = {}): ResolvedOptions {
  const given = validated<ResolvedOptions>('BackgroundTasksModule', options, EXPECTATIONS, (name) =>
    name === 'scope' || name === 'isGlobal' ? '; in forRootAsync(), it goes beside the factory, and not into what that returns' : '',
  );
  if (given.flush && !given.engine) throw needsEngine('flush', 'BackgroundTasksModule');
  if (given.outbox && !given.engine) throw needsEngine('outbox', 'BackgroundTasksModule');
  return { ...DEFAULTS, ...given };
}

const ANYTHING = { expected: 'anything', accepts: () => true };

const BESIDE_THE_FACTORY = {
  useFactory: ANYTHING,
  useClass: ANYTHING,
  useExisting: ANYTHING,
  inject: ANYTHING,
  imports: ANYTHING,
  provideInjectionTokensFrom: ANYTHING,
  isGlobal: ANYTHING,
  scope: ANYTHING,
};

/**
 * What stands beside the factory. Nest would ignore what is misspelt.
 *
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option and those that there are.
 */
export function checkAsyncOptions<Options>(options: Options): Options {
  validated('BackgroundTasksModule.forRootAsync()', options, BESIDE_THE_FACTORY, (name) =>
    Object.hasOwn(EXPECTATIONS, name) ? '; it goes into what the factory returns' : '',
  );
  return options;
}

/**
 * Checks that configuring the module in several places comes to one and the same: there is one runner, which cannot follow two.
 *
 * @throws BackgroundTasksError `CONFLICTING_OPTIONS`, naming the option.
 */
export function assertSameOptions(configurations: readonly (ResolvedOptions & { readonly scope: unknown })[]): void {
  const [first, ...others] = configurations;
  for (const other of others) {
    const name = ([...Object.keys(DEFAULTS), 'scope'] as (keyof typeof other)[]).find((key) => first?.[key] !== other[key]);
    if (name) {
      throw new BackgroundTasksError(
        'CONFLICTING_OPTIONS',
        `BackgroundTasksModule is configured in several places, with a different \`${name}\`: configure it once, in the root module, and import it plain elsewhere`,
      );
    }
  }
}
