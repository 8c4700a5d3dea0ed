import { Injectable, Scope } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor, OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { Observable } from 'rxjs';
import { heldBack } from '../engine/held-back.js';
import { Execution } from '../runner/execution.js';
import { RefusedError } from '../task/errors.js';
import { BackgroundTasks } from './background-tasks.js';
import { CurrentTasks } from './current-tasks.js';
import { graphqlContext, isAsyncIterable, onceEnded, requestOfOperation, startsSubscription } from './graphql.js';
import { answersByHand } from './http.js';
import { type HandledTasks, listOf } from './injected-tasks.js';
import { lists, requestOf } from './tasks-of.js';
import { beginMessage } from './ws.js';

/** Opens the list of each request and tells it how the handler ended. The module installs it outside every other interceptor. */
@Injectable()
export class BackgroundTasksInterceptor implements NestInterceptor, OnModuleInit, OnModuleDestroy {
  /** What a test put in the place of the provider, with `overrideProvider(BackgroundTasks).useValue(list)`. */
  #override: BackgroundTasks | undefined;
  /** What ends each of the GraphQL subscriptions that are open. */
  readonly #subscriptions = new Set<() => void>();

  /** @internal */
  constructor(
    private readonly runner: Execution,
    private readonly moduleRef: ModuleRef,
  ) {}

  onModuleInit(): void {
    if (this.moduleRef.introspect(BackgroundTasks).scope !== Scope.DEFAULT) return;
    const tasks = this.moduleRef.get(BackgroundTasks, { strict: false });
    if (!(tasks instanceof CurrentTasks)) this.#override = tasks;
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = requestOf(context) ?? (context.getType<string>() === 'ws' ? beginMessage(context) : undefined);
    const tasks = request && this.#open(request, context.getType());
    return tasks ? this.#observed(next, tasks, context) : next.handle();
  }

  /**
   * Does for a GraphQL resolver, its guards and filters included, what `intercept` does for a handler.
   * @internal
   */
  async aroundResolver(args: readonly unknown[], resolve: () => Promise<unknown>): Promise<unknown> {
    const tasks = this.#open(requestOfOperation(graphqlContext(args)), 'graphql');
    if (!tasks) return resolve();
    let settled = false;
    const settle = (failure?: { error: unknown }): void => {
      if (settled) return;
      settled = true;
      this.#subscriptions.delete(settle);
      if (failure) tasks.fail(failure.error);
      tasks.handlerSettled();
    };
    tasks.handlerStarted();
    const before = tasks.unacknowledged;
    try {
      const result = await this.runner.enter(tasks, resolve);
      if (startsSubscription(args) && isAsyncIterable(result)) {
        this.#subscriptions.add(settle);
        return onceEnded(result, (step) => this.runner.enter(tasks, step), settle);
      }
      // A filter returns the error that GraphQL is to report.
      const failure = result instanceof Error ? { error: result } : undefined;
      const acknowledged = tasks.flushFirst(failure ? 'failure' : 'success', before);
      if (acknowledged) await (failure ? acknowledged.catch(() => undefined) : acknowledged);
      settle(failure);
      return result;
    } catch (error) {
      settle({ error });
      // The message of an error goes to the client.
      throw error instanceof RefusedError ? error.toResponse() : error;
    }
  }

  /** Ends the subscriptions that are open: GraphQL ends them after this, and the shutdown would wait for them. */
  onModuleDestroy(): void {
    for (const settle of this.#subscriptions) settle();
  }

  #open(request: object, type: string): HandledTasks | undefined {
    if (!this.#override) return listOf(request, type, this.runner);
    lists.set(request, this.#override);
    return undefined;
  }

  #handled(next: CallHandler, tasks: HandledTasks, context: ExecutionContext): Observable<unknown> {
    const isSent = context.getType() === 'http' && answersByHand(context);
    return this.runner.hasEngine && !isSent ? heldBack(next.handle(), tasks) : next.handle();
  }

  /** The values of the handler, their end reported to the list. */
  #observed(next: CallHandler, tasks: HandledTasks, context: ExecutionContext): Observable<unknown> {
    return new Observable((subscriber) => {
      tasks.handlerStarted(context);
      const subscription = this.runner.enter(tasks, () =>
        this.#handled(next, tasks, context).subscribe({
          next: (value) => subscriber.next(value),
          error: (error: unknown) => {
            tasks.fail(error);
            subscriber.error(error);
          },
          complete: () => subscriber.complete(),
        }),
      );
      // Comes after an error and after the end, and when the client leaves an event stream, which is no failure.
      return () => {
        subscription.unsubscribe();
        tasks.handlerSettled(context);
      };
    });
  }
}
