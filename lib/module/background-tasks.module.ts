import { type DynamicModule, Global, Module } from '@nestjs/common';
import { ConfigurableModuleClass } from './module-definition.js';
import type { BackgroundTasksRootOptions } from './options.js';
import { RequestScopeModule } from './scope.modules.js';

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
  static override forRoot(options: BackgroundTasksRootOptions = {}): DynamicModule {
    return super.forRoot(options);
  }
}
