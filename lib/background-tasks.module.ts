import { type DynamicModule, Global, Module } from '@nestjs/common';
import { ConfigurableModuleClass, type OPTIONS_TYPE } from './background-tasks.module-definition.js';
import { RequestScopeModule } from './background-tasks.scope.module.js';

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
@Module({ imports: [RequestScopeModule], exports: [RequestScopeModule] })
export class BackgroundTasksModule extends ConfigurableModuleClass {
  /** Configures the one runner of the application; `forRootAsync` does so with values that come from a provider. */
  static override forRoot(options: typeof OPTIONS_TYPE = {}): DynamicModule {
    return super.forRoot(options);
  }
}
