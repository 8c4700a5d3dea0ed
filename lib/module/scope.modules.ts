import { Module, type NestModule, type OnModuleInit, Scope } from '@nestjs/common';
import { HttpAdapterHost, ModulesContainer, REQUEST } from '@nestjs/core';
import { BackgroundTasks } from '../request/background-tasks.js';
import { CurrentTasks } from '../request/current-tasks.js';
import { enterRequests } from '../request/http.js';
import { injectedTasks } from '../request/injected-tasks.js';
import { RequestTasks } from '../request/request-tasks.js';
import { Execution } from '../runner/execution.js';
import { BackgroundTasksError } from '../task/errors.js';
import { CoreModule } from './core.module.js';

/** `Scope.REQUEST`: what is injected is the list of the request, and what injects it is made anew for each. */
@Module({
  imports: [CoreModule],
  providers: [{ provide: BackgroundTasks, scope: Scope.REQUEST, inject: [REQUEST, Execution], useFactory: injectedTasks }],
  exports: [BackgroundTasks, CoreModule],
})
export class RequestScopeModule {}

/** `Scope.DEFAULT`: what is injected is a singleton, which finds the list of the request through an `AsyncLocalStorage`. */
@Module({
  imports: [CoreModule],
  providers: [
    { provide: CurrentTasks, inject: [Execution], useFactory: (runner: Execution) => new CurrentTasks(runner) },
    { provide: BackgroundTasks, useExisting: CurrentTasks },
  ],
  exports: [BackgroundTasks, CoreModule],
})
export class DefaultScopeModule implements NestModule, OnModuleInit {
  constructor(
    private readonly modules: ModulesContainer,
    private readonly adapterHost: HttpAdapterHost,
    private readonly runner: Execution,
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
