import {
  type FactoryProvider,
  Inject,
  Module,
  type NestModule,
  type OnApplicationBootstrap,
  type OnApplicationShutdown,
  type OnModuleInit,
  Optional,
  Scope,
} from '@nestjs/common';
import { ApplicationConfig, ExternalContextCreator, HttpAdapterHost, ModuleRef, ModulesContainer, REQUEST } from '@nestjs/core';
import { NamedProviders } from '../engine/named-providers.js';
import { Relay } from '../engine/relay.js';
import { Sender } from '../engine/sender.js';
import { WorkerHost } from '../engine/worker-host.js';
import { Connections, aroundRequests, linkResponses, observeFailures } from '../nest-internals/adapter.js';
import { addOutermostInterceptor, aroundResolvers, runWithoutObservables } from '../nest-internals/handlers.js';
import { internalsWarning, loggerUnknown, onCloseCalled, shutDownFirst } from '../nest-internals/modules.js';
import { BackgroundTasksInterceptor } from '../request/background-tasks.interceptor.js';
import { BackgroundTasks } from '../request/background-tasks.js';
import { BackgroundTasksRunner } from '../request/background-tasks.runner.js';
import { HttpLifetime } from '../request/http-lifetime.js';
import { CurrentRequest, tasksOfRequest } from '../request/lists.js';
import { Runner } from '../runner/runner.js';
import { Shutdown } from '../runner/shutdown.js';
import { BackgroundTasksError } from '../task/errors.js';
import { TaskLog } from '../task/log.js';
import { type OpenApplication, applications, registerCopy } from '../request/context.js';
import { copiesWarning, requestScopedWarning, serverlessWarning, signalsWarning, unwrappedAdapterWarning } from './boot-warnings.js';
import { MODULE_OPTIONS, MODULE_SCOPE, type ResolvedOptions, assertSameOptions, resolveOptions } from './options.js';

const RESOLVED_OPTIONS = Symbol('ResolvedOptions');

/** The wiring: the layers below know nothing of Nest's injection. */
const PARTS: FactoryProvider[] = [
  { provide: RESOLVED_OPTIONS, inject: [{ token: MODULE_OPTIONS, optional: true }], useFactory: resolveOptions },
  { provide: TaskLog, inject: [RESOLVED_OPTIONS], useFactory: ({ onError }: ResolvedOptions) => new TaskLog(onError) },
  { provide: NamedProviders, inject: [ModulesContainer], useFactory: (modules: ModulesContainer) => new NamedProviders(modules) },
  {
    provide: Sender,
    inject: [NamedProviders, RESOLVED_OPTIONS],
    useFactory: (providers: NamedProviders, options: ResolvedOptions) => new Sender(providers, options),
  },
  {
    provide: WorkerHost,
    inject: [NamedProviders, RESOLVED_OPTIONS, TaskLog],
    useFactory: (providers: NamedProviders, options: ResolvedOptions, log: TaskLog) => new WorkerHost(providers, options, log),
  },
  {
    provide: Relay,
    inject: [RESOLVED_OPTIONS, Sender, TaskLog],
    useFactory: ({ outbox }: ResolvedOptions, sender: Sender, log: TaskLog) => outbox && new Relay(outbox, sender, log),
  },
  {
    provide: Runner,
    inject: [RESOLVED_OPTIONS, TaskLog, Sender, { token: Relay, optional: true }],
    useFactory: (options: ResolvedOptions, log: TaskLog, sender: Sender, relay?: Relay) => new Runner(options, log, sender, relay),
  },
  { provide: CurrentRequest, inject: [Runner], useFactory: (runner: Runner) => new CurrentRequest(runner) },
  {
    provide: BackgroundTasksRunner,
    inject: [Runner, CurrentRequest, WorkerHost, { token: Relay, optional: true }],
    useFactory: (runner: Runner, current: CurrentRequest, host: WorkerHost, relay?: Relay) =>
      new BackgroundTasksRunner(runner, current, host, relay),
  },
  {
    provide: Shutdown,
    inject: [Runner, WorkerHost, { token: Relay, optional: true }],
    useFactory: (runner: Runner, host: WorkerHost, relay?: Relay) => new Shutdown(runner, host, relay),
  },
  {
    provide: BackgroundTasksInterceptor,
    inject: [Runner, CurrentRequest, ModuleRef],
    useFactory: (runner: Runner, current: CurrentRequest, moduleRef: ModuleRef) =>
      new BackgroundTasksInterceptor(runner, current, moduleRef),
  },
];

/** Holds the single instances of an application, however many modules import `BackgroundTasksModule`. */
@Module({ providers: PARTS, exports: [BackgroundTasksRunner, BackgroundTasksInterceptor, Runner, CurrentRequest] })
export class BackgroundTasksCoreModule implements NestModule, OnModuleInit, OnApplicationBootstrap, OnApplicationShutdown {
  readonly #application: OpenApplication;
  /** Features that are limited with this version of Nest. */
  readonly #limitations: (string | undefined)[] = [];

  constructor(
    private readonly modules: ModulesContainer,
    private readonly adapterHost: HttpAdapterHost,
    private readonly log: TaskLog,
    @Inject(RESOLVED_OPTIONS) private readonly options: ResolvedOptions,
    private readonly runner: Runner,
    private readonly sender: Sender,
    private readonly workerHost: WorkerHost,
    private readonly contexts: ExternalContextCreator,
    @Optional() @Inject(Relay) private readonly relay: Relay | undefined,
    config: ApplicationConfig,
    interceptor: BackgroundTasksInterceptor,
  ) {
    if (![...modules.values()].some((module) => module.providers.has(BackgroundTasks))) {
      throw new BackgroundTasksError(
        'BACKGROUND_TASK_MODULE_NOT_IMPORTED',
        'A module that observes background tasks is imported without BackgroundTasksModule. Add BackgroundTasksModule to the imports of the root module',
      );
    }
    registerCopy();
    this.#application = { server: undefined, tasksOf: (request, type) => interceptor.tasksOf(request, type) };
    // Nest 12 has this hook, which sees the messages of a microservice before their guards.
    config.registerPreRequestHook?.((context, next) => interceptor.intercept(context, { handle: next }));
    runner.checkTasks(() => this.#checkSignals(interceptor));
    const unwrapped = aroundResolvers(contexts, (args, resolve) => interceptor.resolvers.around(args, resolve));
    interceptor.resolvers.areWrapped = unwrapped === undefined;
    this.#limitations.push(
      shutDownFirst(modules, BackgroundTasksCoreModule),
      onCloseCalled(modules, () => runner.closeRequested()),
      addOutermostInterceptor(config, interceptor),
      unwrapped,
      loggerUnknown(),
    );
  }

  async onModuleInit(): Promise<void> {
    const configurations = [...this.modules.values()].filter((module) => module.providers.has(MODULE_OPTIONS));
    assertSameOptions(
      configurations.map((module) => ({
        ...resolveOptions(module.getProviderByKey(MODULE_OPTIONS).instance),
        scope: module.getProviderByKey(MODULE_SCOPE).instance,
      })),
    );
    if (this.sender.discover()) this.runner.keepCurrentTask();
    this.#limitations.push(await runWithoutObservables(this.contexts, (interceptor) => interceptor instanceof BackgroundTasksInterceptor));
    const requestScoped = this.#requestScopedWarning();
    const serverless = serverlessWarning(this.runner, process.env);
    const unwrapped = unwrappedAdapterWarning(this.modules, this.options);
    for (const warning of [internalsWarning(this.#limitations), copiesWarning(), requestScoped, serverless, unwrapped]) {
      if (warning) this.log.warn(warning);
    }
  }

  /** Warns if nothing handles SIGTERM. Returns false if this is not a running server (yet): it may enable its hooks after `listen()`. */
  #checkSignals({ receivesMessages }: BackgroundTasksInterceptor): boolean {
    if (!this.adapterHost.listening && !receivesMessages) return false;
    const warning = signalsWarning(this.runner, process.env);
    if (warning) this.log.warn(warning);
    return true;
  }

  #requestScopedWarning(): string | undefined {
    try {
      return requestScopedWarning(this.modules);
    } catch (error) {
      if (error instanceof BackgroundTasksError) throw error;
      // The application works without the check.
      this.#limitations.push(`no warning names the classes that injecting BackgroundTasks makes request-scoped: ${String(error)}`);
      return undefined;
    }
  }

  async onApplicationBootstrap(): Promise<void> {
    applications.add(this.#application);
    await this.relay?.start();
    await this.workerHost.start();
  }

  onApplicationShutdown(): void {
    applications.delete(this.#application);
  }

  configure(): void {
    const { httpAdapter } = this.adapterHost;
    this.#application.server = httpAdapter.getHttpServer();
    linkResponses(httpAdapter);
    const connections = new Connections(httpAdapter.getHttpServer(), (request) => HttpLifetime.clientGone(request));
    this.runner.closing.addEventListener('abort', () =>
      connections.forEachResponse((response) => HttpLifetime.of(response.req, this.runner).awaitHandler(response)),
    );
    observeFailures(httpAdapter, {
      sendFailed: (request) => HttpLifetime.latest(request)?.markSendFailed(),
      requestFailed: (request, error) => HttpLifetime.latest(request)?.markFailed(error),
    });
  }
}

/** `Scope.REQUEST`: the list of the request is injected. Nest creates a provider that injects it for each request. */
@Module({
  imports: [BackgroundTasksCoreModule],
  providers: [{ provide: BackgroundTasks, scope: Scope.REQUEST, inject: [REQUEST, Runner], useFactory: tasksOfRequest }],
  exports: [BackgroundTasks, BackgroundTasksCoreModule],
})
export class BackgroundTasksRequestScopeModule {}

/** `Scope.DEFAULT`: a singleton is injected, which finds the list of the request through an `AsyncLocalStorage`. */
@Module({
  imports: [BackgroundTasksCoreModule],
  providers: [
    { provide: BackgroundTasks, scope: Scope.DEFAULT, inject: [CurrentRequest], useFactory: ({ injected }: CurrentRequest) => injected },
  ],
  exports: [BackgroundTasks, BackgroundTasksCoreModule],
})
export class BackgroundTasksDefaultScopeModule implements NestModule {
  constructor(
    private readonly adapterHost: HttpAdapterHost,
    private readonly runner: Runner,
    private readonly current: CurrentRequest,
  ) {
    current.follow();
  }

  configure(): void {
    aroundRequests(this.adapterHost.httpAdapter, (request, func) => this.current.runInRequest(HttpLifetime.of(request, this.runner), func));
  }
}
