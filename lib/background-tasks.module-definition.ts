import { ConfigurableModuleBuilder, Module } from '@nestjs/common';
import { BackgroundTasksCoreModule } from './background-tasks.core.module.js';
import { type BackgroundTasksModuleOptions, MODULE_OPTIONS } from './background-tasks.options.js';

/** Holds the options where the core finds them, also if what the user imported is not global. */
@Module({})
class BackgroundTasksOptionsModule {}

/** What `isGlobal: false` imports in the place of `BackgroundTasksModule`. */
@Module({ imports: [BackgroundTasksCoreModule], exports: [BackgroundTasksCoreModule] })
class LocalBackgroundTasksModule {}

export const { ConfigurableModuleClass, OPTIONS_TYPE } = new ConfigurableModuleBuilder<BackgroundTasksModuleOptions>({
  optionsInjectionToken: MODULE_OPTIONS,
})
  .setClassMethodName('forRoot')
  .setFactoryMethodName('createBackgroundTasksOptions')
  .setExtras({ isGlobal: true }, (definition, { isGlobal }) => ({
    module: isGlobal ? definition.module : LocalBackgroundTasksModule,
    imports: [{ ...definition, module: BackgroundTasksOptionsModule, exports: [MODULE_OPTIONS], global: true }],
  }))
  .build();
