import type { Scope } from '@nestjs/common';
import { ENGINE_DEFAULTS, ENGINE_EXPECTATIONS, type EngineOptions, type ResolvedEngineOptions, needsEngine } from '../engine/options.js';
import { RUNNER_DEFAULTS, RUNNER_EXPECTATIONS, type ResolvedRunnerOptions, type RunnerOptions } from '../runner/options.js';
import { BackgroundTasksError } from '../task/errors.js';
import { type Expectations, validated } from '../task/validation.js';

/** The options of an application, as returned by the factory of `BackgroundTasksModule.forRootAsync()`. */
export interface BackgroundTasksModuleOptions extends RunnerOptions, EngineOptions {}

/** The options that Nest needs before it creates anything. In `forRootAsync()`, pass them beside the factory. */
export interface BackgroundTasksModuleExtras {
  /** If true, modules that do not import this one can inject `BackgroundTasks`. @default true */
  isGlobal?: boolean | undefined;
  /**
   * `Scope.DEFAULT` injects a singleton that follows the request through an `AsyncLocalStorage`, so that the classes that inject it do not
   * become request-scoped. @default Scope.REQUEST
   */
  scope?: Scope.REQUEST | Scope.DEFAULT | undefined;
}

/** The options of `BackgroundTasksModule.forRoot()`. */
export interface BackgroundTasksRootOptions extends BackgroundTasksModuleOptions, BackgroundTasksModuleExtras {}

/** Module options with their defaults filled in. */
export interface ResolvedOptions extends ResolvedRunnerOptions, ResolvedEngineOptions {}

/** The injection token of the options passed to `forRoot` or `forRootAsync`. */
export const MODULE_OPTIONS = Symbol('BackgroundTasksModuleOptions');

/** The injection token of the scope passed beside them. */
export const MODULE_SCOPE = Symbol('BackgroundTasksModuleScope');

const DEFAULTS: ResolvedOptions = { ...RUNNER_DEFAULTS, ...ENGINE_DEFAULTS };

const EXPECTATIONS: Expectations<BackgroundTasksModuleOptions> = { ...RUNNER_EXPECTATIONS, ...ENGINE_EXPECTATIONS };

/**
 * Checks the options of the application, and fills in the defaults.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function resolveOptions(options: unknown = {}): ResolvedOptions {
  const given = validated<ResolvedOptions>('BackgroundTasksModule', options, EXPECTATIONS, (name) =>
    name === 'scope' || name === 'isGlobal' ? '; in forRootAsync(), pass it beside the factory, not in the returned options' : '',
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
 * Checks the options beside the factory, as Nest would ignore a misspelt one.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, naming the option and the valid ones.
 */
export function checkAsyncOptions<Options>(options: Options): Options {
  validated('BackgroundTasksModule.forRootAsync()', options, BESIDE_THE_FACTORY, (name) =>
    Object.hasOwn(EXPECTATIONS, name) ? '; return it from the factory' : '',
  );
  return options;
}

/**
 * Checks that all configurations of the module are the same, as an application has only one runner.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_CONFLICTING_OPTIONS`, naming the option.
 */
export function assertSameOptions(configurations: readonly (ResolvedOptions & { readonly scope: unknown })[]): void {
  const [first, ...others] = configurations;
  for (const other of others) {
    const name = ([...Object.keys(DEFAULTS), 'scope'] as (keyof typeof other)[]).find((key) => first?.[key] !== other[key]);
    if (name) {
      throw new BackgroundTasksError(
        'BACKGROUND_TASK_CONFLICTING_OPTIONS',
        `BackgroundTasksModule is configured in several places, with a different \`${name}\`. Configure it once, in the root module, and import it without options elsewhere`,
      );
    }
  }
}
