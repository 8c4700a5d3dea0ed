import type { EngineHealth } from '../engine/engine.js';
import type { WorkerHost } from '../engine/worker-host.js';
import { Runner } from '../runner/runner.js';
import type { BackgroundTask } from '../task/background-task.js';
import { invalid } from '../task/validation.js';
import type { BackgroundTasks } from './background-tasks.js';
import { WorkLifetime } from './lifetime.js';
import { CurrentRequest } from './lists.js';
import { runHandler } from './run-handler.js';

/** Whether what this process needs to send and to run tasks is there. */
export interface BackgroundTasksHealth {
  /** False if `engine` has something that is `false`. Without an engine, nothing can be missing. */
  readonly ok: boolean;
  /** With an engine alone. */
  readonly engine?: EngineHealth;
}

/** Executes and tracks the tasks of an application. */
export class BackgroundTasksRunner {
  readonly #runner: Runner;
  readonly #current: CurrentRequest;
  readonly #workerHost: WorkerHost | undefined;

  /** Made by `BackgroundTasksModule`: inject it. @internal */
  constructor(runner = new Runner(), current = new CurrentRequest(runner), workerHost?: WorkerHost) {
    this.#runner = runner;
    this.#current = current;
    this.#workerHost = workerHost;
  }

  /** The tasks that run now. */
  get activeCount(): number {
    return this.#runner.counters.active;
  }

  /** The tasks that were added and have not started, those of requests in flight included. */
  get pendingCount(): number {
    return this.#runner.counters.pending;
  }

  /** The tasks that were discarded since the application started: by the outcome of their request, behind a failed task, or cancelled. */
  get discardedCount(): number {
    return this.#runner.counters.discarded;
  }

  /**
   * Fires as the shutdown begins, before anything is waited for. End here what would keep requests open: event streams and long polls, for
   * example with `takeUntil(fromEvent(runner.closing, 'abort'))`. `onModuleDestroy` comes after the wait for requests and tasks.
   */
  get closing(): AbortSignal {
    return this.#runner.closing;
  }

  /**
   * Tells whether what this process needs to send and to run tasks is there: for a readiness probe. Not for a liveness probe: a restart does not
   * bring a server back, and the process needs none when it comes. It asks the engine, which sends its server a ping at most. Never rejects.
   */
  async health(): Promise<BackgroundTasksHealth> {
    const engine = await this.#workerHost?.health();
    return engine ? { ok: engine.sends && engine.works !== false, engine } : { ok: true };
  }

  /**
   * Calls a function with a list of its own, for work that is no request: a cron job, a listener, a consumer, a command.
   *
   * The tasks of the list start when the function has settled. An exception is the failure of this work, and is thrown on. `app.close()` waits
   * for the function, as it waits for a request. Under `Scope.DEFAULT`, what is injected is this list for as long as the function works.
   *
   * @returns What the function returns. Under `flush: 'before-response'`, as soon as the engine has the tasks.
   * @throws What the function throws; a `BackgroundTasksEngineError` if the engine does not take the tasks in time.
   */
  async within<Result>(func: (tasks: BackgroundTasks) => Result | PromiseLike<Result>): Promise<Result> {
    if (typeof func !== 'function') throw invalid('INVALID_TASK', 'what within() calls', 'a function', func);
    const lifetime = new WorkLifetime(this.#runner);
    const options = { current: this.#current, waitsForEngine: true };
    return (await runHandler(lifetime, options, () => lifetime.callWithin(() => func(lifetime.injected)))) as Result;
  }

  /**
   * The task that has this id, while it waits or runs in this process. A task for an engine is found until the engine has it.
   */
  find(id: string): BackgroundTask | undefined {
    return this.#runner.tasksById.get(id);
  }

  /**
   * Resolves when no task is pending or active, and every `onError` has ended. A test can call it as soon as it has the answer: tasks count from
   * the moment they were added.
   */
  onIdle(): Promise<void> {
    this.#runner.idleRequested();
    return this.#runner.counters.onAllSettled();
  }
}
