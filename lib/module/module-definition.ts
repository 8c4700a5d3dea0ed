import { ConfigurableModuleBuilder, Module, Scope } from '@nestjs/common';
import { invalid } from '../task/validation.js';
import { type BackgroundTasksModuleExtras, type BackgroundTasksModuleOptions, MODULE_OPTIONS, MODULE_SCOPE } from './options.js';
import { DefaultScopeModule, RequestScopeModule } from './scope.modules.js';

/** Holds the options where the core finds them, also if what the user imported is not global. */
@Module({})
class BackgroundTasksOptionsModule {}

/** What `forRoot` and `forRootAsync` import in the place of `BackgroundTasksModule`, which is global and request-scoped. */
@Module({})
export class ConfiguredBackgroundTasksModule {}

export const { ConfigurableModuleClass } = new ConfigurableModuleBuilder<BackgroundTasksModuleOptions>({
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
        module: ConfiguredBackgroundTasksModule,
        global: isGlobal,
        imports: [scopeModule, { ...definition, providers, module: BackgroundTasksOptionsModule, exports: [MODULE_OPTIONS], global: true }],
        exports: [scopeModule],
      };
    },
  )
  .build();

function moduleOf(scope: Scope): typeof RequestScopeModule | typeof DefaultScopeModule {
  if (scope === Scope.REQUEST) return RequestScopeModule;
  if (scope === Scope.DEFAULT) return DefaultScopeModule;
  throw invalid('INVALID_OPTION', 'the option `scope` of BackgroundTasksModule', 'Scope.REQUEST or Scope.DEFAULT', scope);
}
