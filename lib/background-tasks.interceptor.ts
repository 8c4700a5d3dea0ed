import { Injectable, Scope } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor, OnModuleInit } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { Observable } from 'rxjs';
import { BackgroundTasksRunner } from './background-tasks.runner.js';
import { BackgroundTasks } from './background-tasks.js';
import { rawRequest } from './request/http.js';
import { RequestTasks } from './request/request-tasks.js';
import { lists } from './request/tasks-of.js';

/** Opens the list of each request and tells it how the handler ended. The module installs it outside every other interceptor. */
@Injectable()
export class BackgroundTasksInterceptor implements NestInterceptor, OnModuleInit {
  /** What a test put in the place of the provider, with `overrideProvider(BackgroundTasks).useValue(list)`. */
  #override: BackgroundTasks | undefined;

  constructor(
    private readonly runner: BackgroundTasksRunner,
    private readonly moduleRef: ModuleRef,
  ) {}

  onModuleInit(): void {
    if (this.moduleRef.introspect(BackgroundTasks).scope === Scope.DEFAULT) this.#override = this.moduleRef.get(BackgroundTasks);
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    if (context.getType() !== 'http') return next.handle();
    const request = rawRequest(context.switchToHttp().getRequest());
    if (this.#override) {
      lists.set(request, this.#override);
      return next.handle();
    }
    return observed(next.handle(), RequestTasks.of(request, this.runner), context);
  }
}

/** The same values, their end reported to the list. */
function observed(result: Observable<unknown>, tasks: RequestTasks, context: ExecutionContext): Observable<unknown> {
  return new Observable((subscriber) => {
    tasks.handlerStarted();
    const subscription = result.subscribe({
      next: (value) => subscriber.next(value),
      error: (error: unknown) => {
        tasks.fail(error);
        subscriber.error(error);
      },
      complete: () => subscriber.complete(),
    });
    // Comes after an error and after the end, and when the client leaves an event stream, which is no failure.
    return () => {
      subscription.unsubscribe();
      tasks.handlerSettled(context);
    };
  });
}
