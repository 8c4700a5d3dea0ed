import { Module, type NestModule, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import { ApplicationConfig, ExternalContextCreator, HttpAdapterHost, ModulesContainer } from '@nestjs/core';
import { BackgroundTasksError } from './background-tasks.errors.js';
import { BackgroundTasksInterceptor } from './background-tasks.interceptor.js';
import { MODULE_OPTIONS, assertSameOptions, resolveOptions } from './background-tasks.options.js';
import { BackgroundTasks } from './background-tasks.js';
import { BackgroundTasksRunner } from './background-tasks.runner.js';
import { BackgroundTasksShutdown } from './background-tasks.shutdown.js';
import { EngineTasksHost } from './engine/engine-host.js';
import { EngineTasks } from './engine/engine-tasks.js';
import { NamedTasks } from './engine/named-tasks.js';
import { aroundResolvers } from './request/graphql.js';
import { linkResponses } from './request/http.js';

/** The one instance of everything in an application, however many modules import `BackgroundTasksModule`. */
@Module({
  providers: [BackgroundTasksRunner, BackgroundTasksInterceptor, BackgroundTasksShutdown, NamedTasks, EngineTasks, EngineTasksHost],
  exports: [BackgroundTasksRunner, BackgroundTasksInterceptor],
})
export class BackgroundTasksCoreModule implements NestModule, OnModuleInit, OnApplicationBootstrap {
  constructor(
    private readonly modules: ModulesContainer,
    private readonly adapterHost: HttpAdapterHost,
    private readonly engineTasks: EngineTasks,
    private readonly engineHost: EngineTasksHost,
    config: ApplicationConfig,
    interceptor: BackgroundTasksInterceptor,
    resolvers: ExternalContextCreator,
  ) {
    if (![...modules.values()].some((module) => module.providers.has(BackgroundTasks))) {
      throw new BackgroundTasksError(
        'MODULE_NOT_IMPORTED',
        'A module that observes background tasks is imported without BackgroundTasksModule: add that to the imports of the root module',
      );
    }
    // Nest runs the hooks of modules by their distance from the root module, and of global modules last of all: a user's database would
    // be gone by then. Nest leaves the setter undocumented; without it, the order would be the plain one.
    for (const module of modules.values()) if (module.metatype === BackgroundTasksCoreModule) module.distance = -1;
    // In front of the interceptors of the application, which an APP_INTERCEPTOR of a library would run inside of: they may still fail the request.
    config.getGlobalInterceptors().unshift(interceptor);
    // Nest 12 lets the messages of a microservice be seen before their guards, too.
    config.registerPreRequestHook?.((context, next) => interceptor.intercept(context, { handle: next }));
    aroundResolvers(resolvers, (args, resolve) => interceptor.aroundResolver(args, resolve));
  }

  onModuleInit(): void {
    const configurations = [...this.modules.values()].map((module) => module.getProviderByKey(MODULE_OPTIONS)).filter(Boolean);
    assertSameOptions(configurations.map(({ instance }) => resolveOptions(instance)));
    this.engineTasks.discover();
  }

  onApplicationBootstrap(): void {
    this.engineHost.start();
  }

  configure(): void {
    linkResponses(this.adapterHost.httpAdapter);
  }
}
