import { makeTask } from '../engine/background-task.js';
import type { EngineHealth } from '../engine/engine.js';
import type { BackgroundTaskOptions } from '../engine/options.js';
import type { Relay } from '../engine/relay.js';
import { type JoinTransaction, Transaction, runTransaction } from '../engine/transactions.js';
import type { WorkerHost } from '../engine/worker-host.js';
import { Runner } from '../runner/runner.js';
import type { Argument, ArgumentsFor, BackgroundTask, Primitive, TaskState, TheFunctionItself } from '../task/background-task.js';
import { invalid } from '../task/validation.js';
import type { BackgroundTasks } from './background-tasks.js';
import { WorkLifetime } from './lifetime.js';
import { CurrentRequest } from './lists.js';
import { runHandler } from './run-handler.js';

/** Whether what this process needs to send and to run tasks is there. */
export interface BackgroundTasksHealth {
  /** False if `engine` or `outbox` has something that is `false`. Without an engine, nothing can be missing. */
  readonly ok: boolean;
  /** With an engine alone. */
  readonly engine?: EngineHealth;
  /** With an outbox alone. */
  readonly outbox?: {
    /** True if its table can be read. */
    readonly works: boolean;
    /** The problem, for a log: it may name servers and users. */
    readonly problem?: string;
  };
}

/** Executes and tracks the tasks of an application. */
export class BackgroundTasksRunner {
  readonly #runner: Runner;
  readonly #current: CurrentRequest;
  readonly #workerHost: WorkerHost | undefined;
  readonly #relay: Relay | undefined;

  /** Made by `BackgroundTasksModule`: inject it. @internal */
  constructor(runner = new Runner(), current = new CurrentRequest(runner), workerHost?: WorkerHost, relay?: Relay) {
    this.#runner = runner;
    this.#current = current;
    this.#workerHost = workerHost;
    this.#relay = relay;
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
    const [engine, problem] = await Promise.all([this.#workerHost?.health(), this.#relay?.problem()]);
    if (!engine) return { ok: true };
    const ok = engine.sends && engine.works !== false && problem === undefined;
    if (!this.#relay) return { ok, engine };
    return { ok, engine, outbox: problem === undefined ? { works: true } : { works: false, problem } };
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
   * Adds a task of no request: it starts now, and is tracked, as any other. For a cache to warm during a login, or a value to refresh after it was
   * served stale.
   *
   * @throws BackgroundTasksError as `addTask()` of a list.
   */
  addTask<Args extends Argument<Literal>[], Literal extends Primitive = Primitive>(
    func: TheFunctionItself<Args>,
    ...args: ArgumentsFor<Args>
  ): BackgroundTask;
  addTask<Args extends Argument<Literal>[], Literal extends Primitive = Primitive>(
    options: BackgroundTaskOptions,
    func: TheFunctionItself<Args>,
    ...args: ArgumentsFor<Args>
  ): BackgroundTask;
  addTask(first: unknown, ...rest: unknown[]): BackgroundTask {
    const task = makeTask(first, rest);
    // A list of its own, so that no other task holds it up.
    this.#runner.add(this.#runner.listOutsideRequest(), task);
    return task;
  }

  /**
   * Calls a function that opens a transaction, and calls `join` around the work inside of it. Tasks that run on success and are added in that work
   * are part of the transaction: they start after its COMMIT, whatever becomes of the request, and are discarded if it is rolled back, also if
   * the exception is caught. In a request, they wait for the response all the same. With an outbox, those that go to an engine are saved in the
   * transaction, and need its client.
   *
   * A call of `join` inside that work is for a savepoint. A further call after it is for another attempt of the transaction. The function returns
   * when the COMMIT is over, and throws if there was none.
   *
   * @example
   * ```ts
   * await this.runner.transaction((join) =>
   *   this.dataSource.transaction((manager) => join(fromTypeOrm(manager), () => this.place(manager, id))),
   * );
   * ```
   * @returns What the function returns.
   * @throws What the function throws.
   */
  async transaction<Result>(func: (join: JoinTransaction) => Result | PromiseLike<Result>): Promise<Result> {
    if (typeof func !== 'function') throw invalid('INVALID_TASK', 'what transaction() calls', 'a function', func);
    const { log } = this.#runner;
    if (Transaction.current(this.#runner)) {
      log.warn(
        '`runner.transaction()` was called inside of another one, and its tasks do not depend on that: for a savepoint, call the outer `join` again',
      );
    }
    const { result, isJoined } = await runTransaction(this.#runner, func);
    if (!isJoined) log.warn('`runner.transaction()` has ended without a call of `join`, so that no task was part of the transaction');
    return result;
  }

  /**
   * The task that has this id, while it waits or runs in this process. A task for an engine is found until the engine has it.
   */
  find(id: string): BackgroundTask | undefined {
    return this.#runner.tasksById.get(id);
  }

  /**
   * The state of the task that has this id: from this process while the task waits or runs here, and from the engine once the engine has it,
   * so that any process can answer for any task.
   *
   * In process, the states of the last 1000 tasks that have ended are kept, of those alone whose `id` was read. An engine keeps tasks that have
   * ended for as long as it is configured to.
   *
   * @returns undefined for a task that nobody knows, or remembers
   * @throws The error of the engine, if its server cannot be asked.
   */
  state(id: string): Promise<TaskState | undefined> {
    return this.#runner.state(id);
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
