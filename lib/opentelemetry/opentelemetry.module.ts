import { Module, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import { CoreModule } from '../module/core.module.js';
import { BackgroundTasksRunner } from '../request/background-tasks.runner.js';
import { observeTasks } from './observe-tasks.js';

/** The runners of the applications that are open: what OpenTelemetry observes, it observes of the process. */
const runners = new Set<BackgroundTasksRunner>();
let stop: () => void;

/**
 * A span per task, and metrics, through the tracer and meter providers that are registered with `@opentelemetry/api`.
 *
 * @example
 * ```ts
 * @Module({ imports: [BackgroundTasksModule, BackgroundTasksOpenTelemetryModule] })
 * export class AppModule {}
 * ```
 */
@Module({ imports: [CoreModule] })
export class BackgroundTasksOpenTelemetryModule implements OnModuleInit, OnApplicationShutdown {
  constructor(private readonly runner: BackgroundTasksRunner) {}

  onModuleInit(): void {
    if (runners.size === 0) stop = observeTasks(runners);
    runners.add(this.runner);
  }

  onApplicationShutdown(): void {
    if (runners.delete(this.runner) && runners.size === 0) stop();
  }
}
