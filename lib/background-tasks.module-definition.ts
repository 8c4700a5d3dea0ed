import { ConfigurableModuleBuilder, Module, Scope } from '@nestjs/common';
import { invalid } from './background-tasks.errors.js';
import { type BackgroundTasksModuleOptions, MODULE_OPTIONS } from './background-tasks.options.js';
import { DefaultScopeModule, RequestScopeModule } from './background-tasks.scope.module.js';

/** Holds the options where the core finds them, also if what the user imported is not global. */
@Module({})
class BackgroundTasksOptionsModule {}

/** What `forRoot` and `forRootAsync` import in the place of `BackgroundTasksModule`, which is global and request-scoped. */
@Module({})
class ConfiguredBackgroundTasksModule {}

/** What Nest has to know before it makes anything: given beside the options, and for `forRootAsync` beside its factory. */
interface ModuleExtras {
  /** Whether `BackgroundTasks` can be injected in modules that do not import this one. @default true */
  isGlobal: boolean | undefined;
  /**
   * `Scope.DEFAULT` injects a singleton that follows the request through an `AsyncLocalStorage`, so that nothing which injects it becomes
   * request-scoped. @default Scope.REQUEST
   */
  scope: Scope.REQUEST | Scope.DEFAULT | undefined;
}

export const { ConfigurableModuleClass, OPTIONS_TYPE } = new ConfigurableModuleBuilder<BackgroundTasksModuleOptions>({
  optionsInjectionToken: MODULE_OPTIONS,
})
  .setClassMethodName('forRoot')
  .setFactoryMethodName('createBackgroundTasksOptions')
  .setExtras<ModuleExtras>({ isGlobal: true, scope: Scope.REQUEST }, (definition, { isGlobal = true, scope = Scope.REQUEST }) => {
    const scopeModule = moduleOf(scope);
    return {
      module: ConfiguredBackgroundTasksModule,
      global: isGlobal,
      imports: [scopeModule, { ...definition, module: BackgroundTasksOptionsModule, exports: [MODULE_OPTIONS], global: true }],
      exports: [scopeModule],
    };
  })
  .build();

function moduleOf(scope: Scope): typeof RequestScopeModule | typeof DefaultScopeModule {
  if (scope === Scope.REQUEST) return RequestScopeModule;
  if (scope === Scope.DEFAULT) return DefaultScopeModule;
  throw invalid('INVALID_OPTION', 'the option `scope` of BackgroundTasksModule', 'Scope.REQUEST or Scope.DEFAULT', scope);
}
