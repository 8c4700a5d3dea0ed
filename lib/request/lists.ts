import { AsyncLocalStorage } from 'node:async_hooks';
import { isHttpRequest, rawRequest } from '../nest-internals/requests.js';
import type { Runner } from '../runner/runner.js';
import { BackgroundTasksError, taskCalled } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { type BackgroundTasks, type TasksTarget, tasksFor } from './background-tasks.js';
import { type GraphqlContext, WITHOUT_CONTEXT, contextOfHost, isRpcHost, lifetimes, requestOfOperation } from './context.js';
import { HttpLifetime } from './http-lifetime.js';
import { type Lifetime, MessageLifetime, runsByItself } from './lifetime.js';

/** The lifetime of a request, by the type of its execution context. */
export function lifetimeOf(request: object, type: string, runner: Runner): Lifetime {
  return type === 'http' || isHttpRequest(request) ? HttpLifetime.of(request, runner) : MessageLifetime.of(request, runner);
}

/** The `BackgroundTasks` that is injected for the REQUEST of Nest, which is undefined where something was resolved outside of any request. */
export function tasksOfRequest(injected: unknown, runner: Runner): BackgroundTasks {
  if (injected === undefined) return tasksFor(new ListOutsideRequest(runner));
  // A listener of `@nestjs/event-emitter` gets the payload of its event.
  if (typeof injected !== 'object' || injected === null) return tasksFor(new UnsupportedTarget(injected));
  const raw = rawRequest(injected);
  if (isHttpRequest(raw)) return lifetimeOf(raw, 'http', runner).injected;
  const message = contextOfHost(injected);
  if (message) return lifetimeOf(message, 'rpc', runner).injected;
  const request = requestOfOperation(injected as GraphqlContext);
  if (isHttpRequest(request) || lifetimes.get(request)) return lifetimeOf(request, 'graphql', runner).injected;
  return tasksFor(new UnsupportedTarget(injected));
}

/** Tasks that belong to no request: each starts as soon as it is added. */
class ListOutsideRequest implements TasksTarget {
  readonly #runner: Runner;
  readonly #list;

  constructor(runner: Runner) {
    this.#runner = runner;
    this.#list = runner.listOutsideRequest();
  }

  get tasks(): readonly Task[] {
    return this.#list.tasks;
  }

  add(task: Task): void {
    this.#runner.add(this.#list, task);
    // With a handler at work, a request may be what the code meant.
    if (this.#runner.counters.hasHandlers) this.#runner.log.addedToNoRequest(task);
  }

  run(): Promise<void> {
    return runsByItself();
  }
}

/** Follows the request that the current code belongs to. Under `Scope.DEFAULT`, this is where the injected singleton hands its tasks. */
export class CurrentRequest implements TasksTarget {
  readonly #runner: Runner;
  /** The singleton that is injected. */
  readonly injected = tasksFor(this);
  readonly #storage = new AsyncLocalStorage<Lifetime>();
  #isFollowed = false;

  constructor(runner: Runner) {
    this.#runner = runner;
  }

  /** Follows requests from now on. Only `Scope.DEFAULT` needs it: on Node 20 and 22, a store costs every promise of the process. */
  follow(): void {
    this.#isFollowed = true;
    this.#runner.holdCurrentTask();
  }

  /** Calls a function, and all that it sets off, as part of a request. */
  runInRequest<Result>(lifetime: Lifetime, func: () => Result): Result {
    return !this.#isFollowed || this.#storage.getStore() === lifetime ? func() : this.#storage.run(lifetime, func);
  }

  get tasks(): readonly Task[] {
    return this.#storage.getStore()?.tasks ?? [];
  }

  add(task: Task): void {
    const lifetime = this.#storage.getStore();
    if (lifetime) return lifetime.add(task, true);
    // Outside of any request, each task has a list of its own: one that takes its time must not hold up the others.
    this.#runner.add(this.#runner.listOutsideRequest(), task);
  }

  run(): Promise<void> {
    return runsByItself();
  }
}

/** Injected where there is nothing to wait for: to inject it is no error, to add a task to it is. */
class UnsupportedTarget implements TasksTarget {
  readonly tasks: readonly Task[] = [];
  readonly #injected: unknown;

  constructor(injected: unknown) {
    this.#injected = injected;
  }

  add(task: Task): void {
    throw new BackgroundTasksError(
      'UNSUPPORTED_CONTEXT',
      `${taskCalled(task.name)} was refused: expected the REQUEST that Nest injects to be one of HTTP, of GraphQL, or the message of a ` +
        `microservice, got ${describe(this.#injected)}`,
    );
  }

  async run(): Promise<void> {}
}

function describe(injected: unknown): string {
  if (typeof injected !== 'object' || injected === null) return `${injected === null ? 'null' : `a ${typeof injected}`}; ${WHAT_TO_DO}`;
  if (isRpcHost(injected)) return `${WITHOUT_CONTEXT} (type "rpc")`;
  if ('on' in injected && ('handshake' in injected || 'readyState' in injected)) {
    return (
      'the client of a gateway (type "ws"), one for all of its messages; take `@BackgroundTasks()` as a parameter of the handler, or use ' +
      '`forRoot({ scope: Scope.DEFAULT })`'
    );
  }
  return `an object of type "${injected.constructor?.name ?? 'Object'}"; ${WHAT_TO_DO}`;
}

const WHAT_TO_DO =
  'in a listener of events, a command or a job, inject `BackgroundTasksRunner` and add the task in `within()`; in a handler, take ' +
  '`@BackgroundTasks()` as a parameter';
