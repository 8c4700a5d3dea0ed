import { Module, type NestModule, type OnModuleInit, Scope } from '@nestjs/common';
import { HttpAdapterHost, ModulesContainer, REQUEST } from '@nestjs/core';
import { BackgroundTasksCoreModule } from './background-tasks.core.module.js';
import { BackgroundTasksError } from './background-tasks.errors.js';
import { BackgroundTasksRunner } from './background-tasks.runner.js';
import { BackgroundTasks } from './background-tasks.js';
import { CurrentTasks } from './current-tasks.js';
import { enterRequests } from './request/http.js';
import { injectedTasks } from './request/injected-tasks.js';
import { RequestTasks } from './request/request-tasks.js';

/** `Scope.REQUEST`: what is injected is the list of the request, and what injects it is made anew for each. */
@Module({
  imports: [BackgroundTasksCoreModule],
  providers: [{ provide: BackgroundTasks, scope: Scope.REQUEST, inject: [REQUEST, BackgroundTasksRunner], useFactory: injectedTasks }],
  exports: [BackgroundTasks, BackgroundTasksCoreModule],
})
export class RequestScopeModule {}

/** `Scope.DEFAULT`: what is injected is a singleton, which finds the list of the request through an `AsyncLocalStorage`. */
@Module({
  imports: [BackgroundTasksCoreModule],
  providers: [
    { provide: CurrentTasks, inject: [BackgroundTasksRunner], useFactory: (runner: BackgroundTasksRunner) => new CurrentTasks(runner) },
    { provide: BackgroundTasks, useExisting: CurrentTasks },
  ],
  exports: [BackgroundTasks, BackgroundTasksCoreModule],
})
export class DefaultScopeModule implements NestModule, OnModuleInit {
  constructor(
    private readonly modules: ModulesContainer,
    private readonly adapterHost: HttpAdapterHost,
    private readonly runner: BackgroundTasksRunner,
    private readonly tasks: CurrentTasks,
  ) {}

  onModuleInit(): void {
    // Nest settles the scope of a provider before it makes anything: it cannot follow what another module says.
    if ([...this.modules.values()].some(({ metatype }) => metatype === RequestScopeModule)) {
      throw new BackgroundTasksError(
        'CONFLICTING_OPTIONS',
        'BackgroundTasksModule is imported in several places, with a different `scope`: with `Scope.DEFAULT`, configure it once, in the root ' +
          'module, and import it nowhere else; it is global',
      );
    }
  }

  configure(): void {
    enterRequests(this.adapterHost.httpAdapter, (request, func) => this.tasks.within(RequestTasks.of(request, this.runner), func));
  }
}
