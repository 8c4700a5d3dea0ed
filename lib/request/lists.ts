import { AsyncLocalStorage } from 'node:async_hooks';
import { isHttpRequest, rawRequest } from '../nest-internals/requests.js';
import type { Runner } from '../runner/runner.js';
import { BackgroundTasksError, taskCalled } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { type BackgroundTasks, type TasksTarget, tasksFor } from './background-tasks.js';
import { type GraphqlContext, WITHOUT_CONTEXT, contextOfHost, isRpcHost, lifetimes, requestOfOperation } from './context.js';
import { HttpLifetime } from './http-lifetime.js';
import { Lifetime, MessageLifetime, runsByItself } from './lifetime.js';

/** The lifetime of a request, by the type of its execution context. */
export function lifetimeOf(request: object, type: string, runner: Runner): Lifetime {
  return type === 'http' || isHttpRequest(request) ? HttpLifetime.of(request, runner) : MessageLifetime.of(request, runner);
}

/** The `BackgroundTasks` to inject for a REQUEST of Nest. REQUEST is undefined if the provider was resolved outside any request. */
export function tasksOfRequest(injected: unknown, runner: Runner): BackgroundTasks {
  if (injected === undefined) return tasksFor(new TargetOutsideRequest(runner));
  // For a listener of `@nestjs/event-emitter`, REQUEST is the payload of the event.
  if (typeof injected !== 'object' || injected === null) return tasksFor(new UnknownTarget(injected));
  const raw = rawRequest(injected);
  if (isHttpRequest(raw)) return lifetimeOf(raw, 'http', runner).injected;
  const message = contextOfHost(injected);
  if (message) return lifetimeOf(message, 'rpc', runner).injected;
  const request = requestOfOperation(injected as GraphqlContext);
  if (isHttpRequest(request) || lifetimes.get(request)) return lifetimeOf(request, 'graphql', runner).injected;
  return tasksFor(new UnknownTarget(injected));
}

/** The target for tasks that belong to no request. Each starts as soon as it is added. */
class TargetOutsideRequest implements TasksTarget {
  readonly tasks: readonly Task[] = [];
  readonly #runner: Runner;

  constructor(runner: Runner) {
    this.#runner = runner;
  }

  add(task: Task): void {
    // A list of its own, so that it waits for no other task, and does not depend on one.
    this.#runner.add(this.#runner.listOutsideRequest(), task);
    // While a handler is running, the code may have meant its request.
    if (this.#runner.counters.hasHandlers) this.#runner.log.addedToNoRequest(task);
  }

  run(): Promise<void> {
    return runsByItself();
  }
}

/** Adds tasks to the request that the current code belongs to. The target of the singleton that is injected under `Scope.DEFAULT`. */
export class CurrentRequest implements TasksTarget {
  readonly #runner: Runner;
  /** The injected singleton. */
  readonly injected = tasksFor(this);
  readonly #storage = new AsyncLocalStorage<Lifetime>();
  #isFollowed = false;

  constructor(runner: Runner) {
    this.#runner = runner;
  }

  /** Follows requests from now on. Only `Scope.DEFAULT` needs it: on Node 20 and 22, a store costs every promise of the process. */
  follow(): void {
    this.#isFollowed = true;
    this.#runner.keepCurrentTask();
  }

  /** Calls a function, including all async work that it starts, as part of a request. */
  runInRequest<Result>(lifetime: Lifetime, func: () => Result): Result {
    return !this.#isFollowed || this.#storage.getStore() === lifetime ? func() : this.#storage.run(lifetime, func);
  }

  get tasks(): readonly Task[] {
    return this.#storage.getStore()?.tasks ?? [];
  }

  add(task: Task): void {
    const lifetime = this.#storage.getStore();
    if (lifetime) return lifetime.add(task, true);
    // Outside any request, each task has a list of its own, so that a slow task does not delay the others.
    this.#runner.add(this.#runner.listOutsideRequest(), task);
  }

  run(): Promise<void> {
    return runsByItself();
  }
}

/**
 * The target for a REQUEST that is not known yet. It may be the context of an operation of GraphQL over a WebSocket, whose lifetime begins
 * after Nest has created its providers. Otherwise there is nothing to wait for, and adding a task is an error.
 */
class UnknownTarget implements TasksTarget {
  readonly #injected: unknown;

  constructor(injected: unknown) {
    this.#injected = injected;
  }

  get #lifetime(): Lifetime | undefined {
    if (typeof this.#injected !== 'object' || this.#injected === null) return undefined;
    const lifetime = lifetimes.get(requestOfOperation(this.#injected));
    return lifetime instanceof Lifetime ? lifetime : undefined;
  }

  get tasks(): readonly Task[] {
    return this.#lifetime?.tasks ?? [];
  }

  add(task: Task): void {
    const lifetime = this.#lifetime;
    if (lifetime) return lifetime.add(task);
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
      `${taskCalled(task.name)} was refused: expected the REQUEST that Nest injects to be an HTTP request, a GraphQL context, or a message of a ` +
        `microservice, got ${describe(this.#injected)}`,
    );
  }

  async run(): Promise<void> {}
}

function describe(injected: unknown): string {
  if (typeof injected !== 'object' || injected === null) return `${injected === null ? 'null' : `a ${typeof injected}`}; ${ADVICE}`;
  if (isRpcHost(injected)) return `${WITHOUT_CONTEXT} (type "rpc")`;
  if ('on' in injected && ('handshake' in injected || 'readyState' in injected)) {
    return (
      'the client of a gateway (type "ws"), which all of its messages share; take `@BackgroundTasks()` as a parameter of the handler, or use ' +
      '`forRoot({ scope: Scope.DEFAULT })`'
    );
  }
  return `an object of type "${injected.constructor?.name ?? 'Object'}"; ${ADVICE}`;
}

const ADVICE =
  'in a listener of events, a command or a job, inject `BackgroundTasksRunner` and add the task in `within()`; in a handler, take ' +
  '`@BackgroundTasks()` as a parameter';
