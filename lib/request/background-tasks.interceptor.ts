import {
  type CallHandler,
  type ExecutionContext,
  Injectable,
  type NestInterceptor,
  type OnModuleInit,
  Scope,
  type Type,
} from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import { type Observable, isObservable, tap } from 'rxjs';
import { type Handler, answersByHand, sendsEvents } from '../nest-internals/handlers.js';
import { rawRequest } from '../nest-internals/requests.js';
import { Runner } from '../runner/runner.js';
import { BackgroundTasks } from './background-tasks.js';
import { beginGatewayMessage, lifetimes, requestOfContext } from './context.js';
import { Resolvers } from './graphql.js';
import type { Lifetime } from './lifetime.js';
import { CurrentRequest, lifetimeOf } from './lists.js';
import { type HandlerOptions, HandlerRun, observeHandler, runHandler } from './run-handler.js';

/** Opens the list of each request, and sets its outcome when the handler ends. The module installs it as the outermost interceptor. */
@Injectable()
export class BackgroundTasksInterceptor implements NestInterceptor, OnModuleInit {
  /** @internal */
  readonly resolvers: Resolvers;
  /**
   * True once a message of a microservice has been received. Such an application has no HTTP server that listens.
   * @internal
   */
  receivesMessages = false;
  readonly #runner: Runner;
  readonly #current: CurrentRequest;
  readonly #moduleRef: ModuleRef;
  /** The list of a test that replaces the provider, with `overrideProvider(BackgroundTasks).useValue(list)`. */
  #override: { readonly injected: BackgroundTasks } | undefined;

  /** @internal */
  constructor(runner: Runner, current: CurrentRequest, moduleRef: ModuleRef) {
    this.#runner = runner;
    this.#current = current;
    this.#moduleRef = moduleRef;
    this.resolvers = new Resolvers(runner, current, (request) => this.#open(request, 'graphql'));
  }

  onModuleInit(): void {
    if (this.#moduleRef.introspect(BackgroundTasks).scope !== Scope.DEFAULT) return;
    const injected = this.#moduleRef.get(BackgroundTasks, { strict: false });
    if (injected !== this.#current.injected) this.#override = { injected };
  }

  /**
   * The list of a request, or the override of a test.
   * @internal
   */
  tasksOf(request: object, type: string): object {
    return this.#open(request, type)?.injected ?? this.#override!.injected;
  }

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const type = context.getType<string>();
    const request = requestOfContext(type, context.getArgs()) ?? (type === 'ws' ? beginGatewayMessage(context) : undefined);
    const lifetime = request && this.#open(request, type);
    // `Resolvers.around` does this for resolvers, including their guards and filters.
    if (!lifetime || (type === 'graphql' && this.resolvers.areWrapped)) return next.handle();
    const handler = context.getHandler();
    const isEndless = type === 'http' && sendsEvents(handler);
    const options = this.#optionsOf(type, handler, context.getClass(), isEndless);
    return observeHandler(lifetime, options, () => next.handle());
  }

  /**
   * See `HandlerHooks`.
   * @internal
   */
  async aroundInterceptors(args: readonly unknown[], controller: object, handler: Handler, next: () => Promise<unknown>): Promise<unknown> {
    const lifetime = this.#open(rawRequest(args[0] as object), 'http');
    if (!lifetime) return next();
    return runHandler(lifetime, this.#optionsOf('http', handler, controller.constructor as Type), next);
  }

  /**
   * See `HandlerHooks`.
   * @internal
   */
  async aroundHandler(type: string, args: readonly unknown[], handler: Handler, next: () => Promise<unknown>): Promise<unknown> {
    const request = requestOfContext(type, args);
    const lifetime = request && this.#open(request, type);
    if (!lifetime) return next();
    const run = new HandlerRun(lifetime, { waitsForEngine: false, isEndless: sendsEvents(handler) });
    const runFailed = lifetime.runStarted(args, type !== 'http');
    try {
      const result = await next();
      return isObservable(result) ? result.pipe(tap({ error: runFailed })) : result;
    } catch (error) {
      runFailed();
      throw error;
    } finally {
      run.settle();
    }
  }

  #open(request: object, type: string): Lifetime | undefined {
    if (type === 'rpc') this.receivesMessages = true;
    if (!this.#override) return lifetimeOf(request, type, this.#runner);
    lifetimes.set(request, this.#override);
    return undefined;
  }

  #optionsOf(type: string, handler: Handler, controller: Type, isEndless = false): HandlerOptions {
    return {
      current: this.#current,
      waitsForEngine: this.#runner.hasEngine && !(type === 'http' && answersByHand(handler, controller)),
      isEndless,
      subscribes: true,
      needsValue: type === 'http' && !isEndless,
    };
  }
}
