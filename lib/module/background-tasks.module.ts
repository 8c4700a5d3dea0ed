import { type ConfigurableModuleAsyncOptions, ConfigurableModuleBuilder, type DynamicModule, Global, Module, Scope } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import type { NestModule } from '../nest-internals/modules.js';
import { BackgroundTasks } from '../request/background-tasks.js';
import { invalid } from '../task/validation.js';
import { BackgroundTasksDefaultScopeModule, BackgroundTasksRequestScopeModule } from './core.module.js';
import {
  type BackgroundTasksModuleExtras,
  type BackgroundTasksModuleOptions,
  type BackgroundTasksRootOptions,
  MODULE_OPTIONS,
  MODULE_SCOPE,
  checkAsyncOptions,
} from './options.js';

/** Holds the options where the core finds them, even if the imported module is not global. */
@Module({})
class BackgroundTasksOptionsModule {}

/** The module that `forRoot` and `forRootAsync` return. `BackgroundTasksModule` itself is global and request-scoped. */
@Module({})
class BackgroundTasksConfiguredModule {}

const { ConfigurableModuleClass } = new ConfigurableModuleBuilder<BackgroundTasksModuleOptions>({
  optionsInjectionToken: MODULE_OPTIONS,
})
  .setClassMethodName('forRoot')
  .setFactoryMethodName('createBackgroundTasksOptions')
  .setExtras<BackgroundTasksModuleExtras>(
    { isGlobal: true, scope: Scope.REQUEST },
    (definition, { isGlobal = true, scope = Scope.REQUEST }) => {
      const scopeModule = moduleOf(scope);
      const providers = [...(definition.providers ?? []), { provide: MODULE_SCOPE, useValue: scope }];
      return {
        module: BackgroundTasksConfiguredModule,
        global: isGlobal,
        imports: [scopeModule, { ...definition, providers, module: BackgroundTasksOptionsModule, exports: [MODULE_OPTIONS], global: true }],
        exports: [scopeModule],
      };
    },
  )
  .build();

function moduleOf(scope: Scope): typeof BackgroundTasksRequestScopeModule | typeof BackgroundTasksDefaultScopeModule {
  if (scope === Scope.REQUEST) return BackgroundTasksRequestScopeModule;
  if (scope === Scope.DEFAULT) return BackgroundTasksDefaultScopeModule;
  throw invalid('BACKGROUND_TASK_INVALID_OPTION', 'the option `scope` of BackgroundTasksModule', 'Scope.REQUEST or Scope.DEFAULT', scope);
}

/** Provides the defaults if no global import configures the module. Nest creates it after `BackgroundTasksModule`, which imports it. */
@Global()
@Module({ imports: [BackgroundTasksRequestScopeModule], exports: [BackgroundTasksRequestScopeModule] })
class BackgroundTasksUnconfiguredModule {
  constructor(modules: ModulesContainer) {
    if (![...modules.values()].some(isDefaultScopeForAll)) return;
    // Nothing injects the list of this module then, but `app.get()`, which searches every module, would find it.
    for (const module of modules.values())
      if (module.metatype === BackgroundTasksRequestScopeModule) module.providers.delete(BackgroundTasks);
  }
}

function isDefaultScopeForAll({ metatype, isGlobal, imports }: NestModule): boolean {
  return (
    metatype === BackgroundTasksConfiguredModule &&
    isGlobal &&
    [...imports].some((imported) => imported.metatype === BackgroundTasksDefaultScopeModule)
  );
}

// The imported `BackgroundTasksConfiguredModule` is empty. Exporting it by its class also exports the module that `forRoot` returned, if
// that is global, as it is then among the imports of this module. So the plain import of a third-party module follows the configuration of
// the application.
/**
 * Import it once, in the root module, as it is or with `forRoot` or `forRootAsync`.
 *
 * @example
 * ```ts
 * @Module({ imports: [BackgroundTasksModule] })
 * export class AppModule {}
 * ```
 */
@Global()
@Module({ imports: [BackgroundTasksConfiguredModule, BackgroundTasksUnconfiguredModule], exports: [BackgroundTasksConfiguredModule] })
export class BackgroundTasksModule extends ConfigurableModuleClass {
  /**
   * Configures the tasks of the application. Call it once, in the root module.
   *
   * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, at boot, naming the option, its value and what was expected.
   */
  static override forRoot(options: BackgroundTasksRootOptions = {}): DynamicModule {
    return super.forRoot(options);
  }

  /**
   * Configures the tasks of the application with the options that a factory returns, or a class with `createBackgroundTasksOptions()`. Pass
   * `scope` and `isGlobal` beside the factory, as Nest needs them earlier.
   *
   * @example
   * ```ts
   * BackgroundTasksModule.forRootAsync({
   *   inject: [ConfigService],
   *   useFactory: (config: ConfigService) => ({ concurrency: Number(config.get('TASKS') ?? 100) }),
   * });
   * ```
   *
   * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, at boot, naming the option, its value and what was expected.
   */
  static override forRootAsync(
    options: ConfigurableModuleAsyncOptions<BackgroundTasksModuleOptions, 'createBackgroundTasksOptions'> & BackgroundTasksModuleExtras,
  ): DynamicModule {
    return super.forRootAsync(checkAsyncOptions(options));
  }
}
