import { Global, Module } from '@nestjs/common';
import { BackgroundTasksCoreModule } from './background-tasks.core.module.js';
import { ConfigurableModuleClass } from './background-tasks.module-definition.js';

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
@Module({ imports: [BackgroundTasksCoreModule], exports: [BackgroundTasksCoreModule] })
export class BackgroundTasksModule extends ConfigurableModuleClass {}
