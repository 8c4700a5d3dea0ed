import { Injectable, Scope } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor, OnModuleInit, Type } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { Observable, isObservable } from 'rxjs';
import { heldBack } from '../engine/held-back.js';
import { Execution } from '../runner/execution.js';
import { BackgroundTasks } from './background-tasks.js';
import { CurrentTasks } from './current-tasks.js';
import { type Handler, answersByHand, isStreaming, sendsEvents } from './handlers.js';
import { rawRequest } from './http.js';
import { type HandledTasks, listOf } from './injected-tasks.js';
import { Resolvers } from './resolvers.js';
import { lists, requestOf } from './tasks-of.js';
import { beginMessage } from './ws.js';

/** Opens the list of each request and tells it how the handler ended. The module installs it outside every other interceptor. */
@Injectable()
export class BackgroundTasksInterceptor implements NestInterceptor, OnModuleInit {
  /** What a test put in the place of the provider, with `overrideProvider(BackgroundTasks).useValue(list)`. */
  #override: BackgroundTasks | undefined;
  /** @internal */
  readonly resolvers: Resolvers;

  /** @internal */
  constructor(
    private readonly runner: Execution,
    private readonly moduleRef: ModuleRef,
  ) {
    this.resolvers = new Resolvers(runner, (request) => this.#open(request, 'graphql'));
  }

  onModuleInit(): void {
    if (this.moduleRef.introspect(BackgroundTasks).scope !== Scope.DEFAULT) return;
    const tasks = this.moduleRef.get(BackgroundTasks, { strict: false });
    if (!(tasks instanceof CurrentTasks)) this.#override = tasks;
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const type = context.getType<string>();
    const request = requestOf(type, context.getArgs()) ?? (type === 'ws' ? beginMessage(context) : undefined);
    const tasks = request && this.#open(request, type);
    if (!tasks) return next.handle();
    const handler = context.getHandler();
    const endless = type === 'http' && sendsEvents(handler);
    const handle = (): Observable<unknown> =>
      this.#holdsBack(type, handler, context.getClass()) ? heldBack(next.handle(), tasks) : next.handle();
    return this.#observed(handle, tasks, endless, type === 'http' && !endless);
  }

  /**
   * Does for a handler of HTTP, and the other interceptors, what `intercept` does, and without an Observable where none of them has one.
   * @internal
   */
  async aroundInterceptors(args: readonly unknown[], controller: object, handler: Handler, next: () => Promise<unknown>): Promise<unknown> {
    const tasks = this.#open(rawRequest(args[0] as object), 'http');
    if (!tasks) return next();
    const holdsBack = this.#holdsBack('http', handler, controller.constructor as Type);
    const before = holdsBack ? tasks.unacknowledged : undefined;
    tasks.handlerStarted();
    try {
      const result = await this.runner.enter(tasks, next);
      if (isObservable(result)) {
        return this.#observed(() => (holdsBack ? heldBack(result, tasks) : result), tasks, false, true);
      }
      if (isStreaming(result)) tasks.streams();
      const acknowledged = holdsBack && tasks.flushFirst('success', before);
      if (acknowledged) await acknowledged;
      return result;
    } catch (error) {
      if (holdsBack) await tasks.flushFirst('failure', before)?.catch(() => undefined);
      tasks.fail(error);
      throw error;
    } finally {
      tasks.handlerSettled();
    }
  }

  /**
   * Has the list wait for the end of the handler itself, if an interceptor around it does not.
   * @internal
   */
  async aroundHandler(type: string, args: readonly unknown[], next: () => Promise<unknown>, endless: boolean): Promise<unknown> {
    const request = requestOf(type, args);
    const tasks = request && this.#open(request, type);
    if (!tasks) return next();
    tasks.handlerStarted(endless);
    try {
      return await next();
    } finally {
      tasks.handlerSettled();
    }
  }

  #open(request: object, type: string): HandledTasks | undefined {
    if (!this.#override) return listOf(request, type, this.runner);
    lists.set(request, this.#override);
    return undefined;
  }

  /** Whether the answer of a handler is to wait for the engine. */
  #holdsBack(type: string, handler: Handler, controller: Type): boolean {
    return this.runner.hasEngine && !(type === 'http' && answersByHand(handler, controller));
  }

  /** The values of a handler, their end reported to the list. */
  #observed(handle: () => Observable<unknown>, tasks: HandledTasks, endless: boolean, needsValue: boolean): Observable<unknown> {
    return new Observable((subscriber) => {
      let isEmpty = needsValue;
      tasks.handlerStarted(endless);
      const subscription = this.runner.enter(tasks, () =>
        handle().subscribe({
          next: (value) => {
            isEmpty = false;
            if (isStreaming(value)) tasks.streams();
            subscriber.next(value);
          },
          error: (error: unknown) => {
            tasks.fail(error);
            subscriber.error(error);
          },
          complete: () => {
            // Nest fails, as there is no value to send.
            if (isEmpty) tasks.fail();
            subscriber.complete();
          },
        }),
      );
      // Comes after an error and after the end, and when the client leaves an event stream, which is no failure.
      return () => {
        subscription.unsubscribe();
        tasks.handlerSettled();
      };
    });
  }
}
