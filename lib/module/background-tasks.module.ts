import { type DynamicModule, Global, Module } from '@nestjs/common';
import { ConfigurableModuleClass, ConfiguredBackgroundTasksModule } from './module-definition.js';
import type { BackgroundTasksRootOptions } from './options.js';
import { RequestScopeModule } from './scope.modules.js';

/** What is injected where nothing configures the module for everybody. Nest looks at it after `BackgroundTasksModule`, which imports it. */
@Global()
@Module({ imports: [RequestScopeModule], exports: [RequestScopeModule] })
class UnconfiguredModule {}

// To export a configured module by its class, as an empty one of which it is imported here, is to export what `forRoot` made of it, too, if that
// is global: it is then among the imports of this module. So the plain import of a third party follows what the application has configured.
/**
 * Import it once, in the root module: plain, or configured with `forRoot` or `forRootAsync`.
 *
 * @example
 * ```ts
 * @Module({ imports: [BackgroundTasksModule] })
 * export class AppModule {}
 * ```
 */
@Global()
@Module({ imports: [ConfiguredBackgroundTasksModule, UnconfiguredModule], exports: [ConfiguredBackgroundTasksModule] })
export class BackgroundTasksModule extends ConfigurableModuleClass {
  /** Configures the one runner of the application; `forRootAsync` does so with values that come from a provider. */
  static override forRoot(options: BackgroundTasksRootOptions = {}): DynamicModule {
    return super.forRoot(options);
  }
}
