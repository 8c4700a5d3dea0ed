import { Module, type NestModule, Scope } from '@nestjs/common';
import { HttpAdapterHost, REQUEST } from '@nestjs/core';
import { BackgroundTasks } from '../request/background-tasks.js';
import { CurrentTasks } from '../request/current-tasks.js';
import { enterRequests } from '../request/http.js';
import { injectedTasks } from '../request/injected-tasks.js';
import { RequestTasks } from '../request/request-tasks.js';
import { Execution } from '../runner/execution.js';
import { CoreModule } from './core.module.js';

/** `Scope.REQUEST`: what is injected is the list of the request, and what injects it is created for each request. */
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
export class DefaultScopeModule implements NestModule {
  constructor(
    private readonly adapterHost: HttpAdapterHost,
    private readonly runner: Execution,
    private readonly tasks: CurrentTasks,
  ) {}

  configure(): void {
    enterRequests(this.adapterHost.httpAdapter, (request, func) => this.tasks.within(RequestTasks.of(request, this.runner), func));
  }
}
