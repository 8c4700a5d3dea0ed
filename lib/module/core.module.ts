import { type FactoryProvider, Module, type NestModule, type OnApplicationBootstrap, type OnModuleInit } from '@nestjs/common';
import { ApplicationConfig, ExternalContextCreator, HttpAdapterHost, ModulesContainer } from '@nestjs/core';
import { TaskHost } from '../engine/host.js';
import { NamedTaskProviders } from '../engine/named-task-providers.js';
import { EngineSender } from '../engine/sender.js';
import { BackgroundTasksInterceptor } from '../request/background-tasks.interceptor.js';
import { BackgroundTasks } from '../request/background-tasks.js';
import { aroundResolvers } from '../request/graphql.js';
import { observeFailures } from '../request/failures.js';
import { linkResponses } from '../request/http.js';
import { runWithoutObservables } from '../request/interceptors-consumer.js';
import { awaitRequests } from '../request/requests-in-progress.js';
import { BackgroundTasksRunner } from '../runner/background-tasks.runner.js';
import { Execution } from '../runner/execution.js';
import { Shutdown } from '../runner/shutdown.js';
import { BackgroundTasksError } from '../task/errors.js';
import { Reporter } from '../task/reporter.js';
import { frozenPlatform } from './frozen-platform.js';
import { madeRequestScoped } from './request-scoped-warning.js';
import { MODULE_OPTIONS, MODULE_SCOPE, type ResolvedOptions, assertSameOptions, resolveOptions } from './options.js';

const RESOLVED_OPTIONS = Symbol('ResolvedOptions');

/** The rooms below know nothing of Nest's injection: here is what each gets. */
const PARTS: FactoryProvider[] = [
  { provide: RESOLVED_OPTIONS, inject: [{ token: MODULE_OPTIONS, optional: true }], useFactory: resolveOptions },
  { provide: Reporter, inject: [RESOLVED_OPTIONS], useFactory: ({ onError }: ResolvedOptions) => new Reporter(onError) },
  { provide: NamedTaskProviders, inject: [ModulesContainer], useFactory: (modules: ModulesContainer) => new NamedTaskProviders(modules) },
  {
    provide: EngineSender,
    inject: [NamedTaskProviders, RESOLVED_OPTIONS],
    useFactory: (providers: NamedTaskProviders, options: ResolvedOptions) => new EngineSender(providers, options),
  },
  {
    provide: TaskHost,
    inject: [NamedTaskProviders, RESOLVED_OPTIONS, Reporter],
    useFactory: (providers: NamedTaskProviders, options: ResolvedOptions, reporter: Reporter) => new TaskHost(providers, options, reporter),
  },
  {
    provide: Execution,
    inject: [RESOLVED_OPTIONS, Reporter, EngineSender],
    useFactory: (options: ResolvedOptions, reporter: Reporter, sender: EngineSender) => new Execution(options, reporter, sender),
  },
  { provide: BackgroundTasksRunner, inject: [Execution], useFactory: (execution: Execution) => new BackgroundTasksRunner(execution) },
  {
    provide: Shutdown,
    inject: [Execution, TaskHost],
    useFactory: (execution: Execution, host: TaskHost) => new Shutdown(execution, host),
  },
];

/** The one instance of everything in an application, however many modules import `BackgroundTasksModule`. */
@Module({
  providers: [...PARTS, BackgroundTasksInterceptor],
  exports: [BackgroundTasksRunner, BackgroundTasksInterceptor, Execution],
})
export class CoreModule implements NestModule, OnModuleInit, OnApplicationBootstrap {
  constructor(
    private readonly modules: ModulesContainer,
    private readonly adapterHost: HttpAdapterHost,
    private readonly reporter: Reporter,
    private readonly execution: Execution,
    private readonly sender: EngineSender,
    private readonly taskHost: TaskHost,
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
    for (const module of modules.values()) if (module.metatype === CoreModule) module.distance = -1;
    // In front of the interceptors of the application, which an APP_INTERCEPTOR of a library would run inside of: they may still fail the request.
    config.getGlobalInterceptors().unshift(interceptor);
    // Nest 12 lets the messages of a microservice be seen before their guards, too.
    config.registerPreRequestHook?.((context, next) => interceptor.intercept(context, { handle: next }));
    runWithoutObservables(resolvers);
    aroundResolvers(resolvers, (args, resolve) => interceptor.resolvers.around(args, resolve));
  }

  onModuleInit(): void {
    const configurations = [...this.modules.values()].filter((module) => module.providers.has(MODULE_OPTIONS));
    assertSameOptions(
      configurations.map((module) => ({
        ...resolveOptions(module.getProviderByKey(MODULE_OPTIONS).instance),
        scope: module.getProviderByKey(MODULE_SCOPE).instance,
      })),
    );
    if (this.sender.discover()) this.execution.holdCurrentTask();
    for (const warning of [madeRequestScoped(this.modules), frozenPlatform(this.execution, process.env)]) {
      if (warning) this.reporter.warn(warning);
    }
  }

  async onApplicationBootstrap(): Promise<void> {
    await this.taskHost.start();
  }

  configure(): void {
    const { httpAdapter } = this.adapterHost;
    linkResponses(httpAdapter);
    awaitRequests(httpAdapter.getHttpServer(), this.execution);
    observeFailures(httpAdapter);
  }
}
