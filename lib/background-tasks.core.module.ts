import { type MiddlewareConsumer, Module, type NestModule, type OnApplicationBootstrap, type OnModuleInit, Scope } from '@nestjs/common';
import { ApplicationConfig, HttpAdapterHost, ModulesContainer, REQUEST } from '@nestjs/core';
import { BackgroundTasksInterceptor } from './background-tasks.interceptor.js';
import { MODULE_OPTIONS, assertSameOptions, resolveOptions } from './background-tasks.options.js';
import { BackgroundTasksRunner } from './background-tasks.runner.js';
import { BackgroundTasks } from './background-tasks.js';
import { EngineTasksHost } from './engine-host.js';
import { EngineTasks } from './engine-tasks.js';
import { NamedTasks } from './named-tasks.js';
import { linkResponses, rawRequest } from './request/http.js';
import { RequestTasks } from './request/request-tasks.js';
import { BackgroundTasksShutdown } from './background-tasks.shutdown.js';
import { TrackedTasks } from './tracked-tasks.js';

/** What is injected as `BackgroundTasks`: the list of the request, or, where something was resolved outside any, tasks that start at once. */
function injectedTasks(request: object | undefined, runner: BackgroundTasksRunner): TrackedTasks {
  if (request) return RequestTasks.of(rawRequest(request), runner);
  const tasks = new TrackedTasks(runner);
  tasks.flush('success');
  return tasks;
}

/** The one instance of everything in an application, however many modules import `BackgroundTasksModule`. */
@Module({
  providers: [
    BackgroundTasksRunner,
    BackgroundTasksInterceptor,
    BackgroundTasksShutdown,
    NamedTasks,
    EngineTasks,
    EngineTasksHost,
    {
      provide: BackgroundTasks,
      scope: Scope.REQUEST,
      inject: [REQUEST, BackgroundTasksRunner],
      useFactory: injectedTasks,
    },
  ],
  exports: [BackgroundTasks, BackgroundTasksRunner],
})
export class BackgroundTasksCoreModule implements NestModule, OnModuleInit, OnApplicationBootstrap {
  constructor(
    private readonly modules: ModulesContainer,
    private readonly config: ApplicationConfig,
    private readonly adapterHost: HttpAdapterHost,
    private readonly interceptor: BackgroundTasksInterceptor,
    private readonly engineTasks: EngineTasks,
    private readonly engineHost: EngineTasksHost,
  ) {
    // Nest runs the hooks of modules by their distance from the root module, and of global modules last of all: a user's database would
    // be gone by then. Nest leaves the setter undocumented; without it, the order would be the plain one.
    for (const module of modules.values()) if (module.metatype === BackgroundTasksCoreModule) module.distance = -1;
  }

  onModuleInit(): void {
    const configurations = [...this.modules.values()].map((module) => module.getProviderByKey(MODULE_OPTIONS)).filter(Boolean);
    assertSameOptions(configurations.map(({ instance }) => resolveOptions(instance)));
    this.engineTasks.discover();
  }

  onApplicationBootstrap(): void {
    this.engineHost.start();
  }

  configure(_consumer: MiddlewareConsumer): void {
    // In front of the interceptors of the application, which an APP_INTERCEPTOR of a library would run inside of: they may still fail the request.
    this.config.getGlobalInterceptors().unshift(this.interceptor);
    linkResponses(this.adapterHost.httpAdapter);
  }
}
