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

/** The health of everything that this process needs to send and to run tasks. */
export interface BackgroundTasksHealth {
  /** False if a value of `engine` or `outbox` is `false`. Always true without an engine. */
  readonly ok: boolean;
  /** Only with an engine. */
  readonly engine?: EngineHealth;
  /** Only with an outbox. */
  readonly outbox?: {
    /** True if its table can be read. */
    readonly works: boolean;
    /** The problem. For logs only, as it may name servers and users. */
    readonly problem?: string;
  };
}

/** Executes and tracks the tasks of an application. */
export class BackgroundTasksRunner {
  readonly #runner: Runner;
  readonly #current: CurrentRequest;
  readonly #workerHost: WorkerHost | undefined;
  readonly #relay: Relay | undefined;

  /** Created by `BackgroundTasksModule`; inject it. @internal */
  constructor(runner = new Runner(), current = new CurrentRequest(runner), workerHost?: WorkerHost, relay?: Relay) {
    this.#runner = runner;
    this.#current = current;
    this.#workerHost = workerHost;
    this.#relay = relay;
  }

  /** The number of running tasks. */
  get activeCount(): number {
    return this.#runner.counters.active;
  }

  /** The number of tasks that were added and have not started, including those of requests in flight. */
  get pendingCount(): number {
    return this.#runner.counters.pending;
  }

  /** The number of tasks discarded since the application started: because of their request's outcome, after a failed task, or cancelled. */
  get discardedCount(): number {
    return this.#runner.counters.discarded;
  }

  /**
   * Fires when the shutdown begins, before it waits for anything. Use it to end event streams and long polls, which would keep requests
   * open, for example with `takeUntil(fromEvent(runner.closing, 'abort'))`. `onModuleDestroy` is called after the wait for requests and
   * tasks.
   */
  get closing(): AbortSignal {
    return this.#runner.closing;
  }

  /**
   * Checks everything that this process needs to send and to run tasks. Use it for a readiness probe, not for a liveness probe: a restart
   * does not bring a server back, and the process reconnects without one. The engine sends its server a ping at most. Never rejects.
   */
  async health(): Promise<BackgroundTasksHealth> {
    const [engine, problem] = await Promise.all([this.#workerHost?.health(), this.#relay?.problem()]);
    if (!engine) return { ok: true };
    const ok = engine.sends && engine.works !== false && problem === undefined;
    if (!this.#relay) return { ok, engine };
    return { ok, engine, outbox: problem === undefined ? { works: true } : { works: false, problem } };
  }

  /**
   * Calls a function with a new list. Use it outside requests: in a cron job, a listener, a consumer, a command.
   *
   * The tasks of the list start when the function has settled. If the function throws, the outcome is a failure, and the exception is
   * rethrown. `app.close()` waits for the function as for a request. Under `Scope.DEFAULT`, the injected list is this one while the
   * function runs.
   *
   * @returns The result of the function. Under `flush: 'before-response'`, as soon as the engine has the tasks.
   * @throws The exception of the function; a `BackgroundTasksEngineError` if the engine does not accept the tasks in time.
   */
  async within<Result>(func: (tasks: BackgroundTasks) => Result | PromiseLike<Result>): Promise<Result> {
    if (typeof func !== 'function') throw invalid('BACKGROUND_TASK_INVALID_TASK', 'the argument of within()', 'a function', func);
    const call = async (): Promise<Result> => {
      const lifetime = new WorkLifetime(this.#runner);
      const options = { current: this.#current, waitsForEngine: true };
      return (await runHandler(lifetime, options, () => lifetime.callWithin(async () => func(lifetime.injected)))) as Result;
    };
    const transaction = Transaction.current(this.#runner.transactions);
    // A savepoint, so that its failure discards its tasks even if the transaction commits.
    return transaction ? transaction.savepoint(call) : call();
  }

  /**
   * Adds a task that belongs to no request. It starts immediately, and is tracked like any other: for example to warm a cache during a
   * login, or to refresh a value that was served stale.
   *
   * @throws BackgroundTasksError See `BackgroundTasks#addTask`.
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
    // A list of its own, so that it waits for no other task.
    this.#runner.add(this.#runner.listOutsideRequest(), task);
    return task;
  }

  /**
   * Calls a function that opens a transaction, and that wraps the work inside it in `join`. Tasks that are added in that work and run on
   * success are part of the transaction: they start after its COMMIT, whatever the outcome of the request, and are discarded on a rollback,
   * even if the exception is caught. In a request, they still wait for the response. With an outbox, tasks for an engine are saved in the
   * transaction; pass `join` its client.
   *
   * Call `join` inside that work for a savepoint, and after it for another attempt of the transaction. The function has to return after the
   * COMMIT, and to throw if there was none.
   *
   * @example
   * ```ts
   * await this.runner.transaction((join) =>
   *   this.dataSource.transaction((manager) => join(fromTypeOrm(manager), () => this.place(manager, id))),
   * );
   * ```
   * @returns The result of the function.
   * @throws The exception of the function.
   */
  async transaction<Result>(func: (join: JoinTransaction) => Result | PromiseLike<Result>): Promise<Result> {
    if (typeof func !== 'function') throw invalid('BACKGROUND_TASK_INVALID_TASK', 'the argument of transaction()', 'a function', func);
    const { log, transactions } = this.#runner;
    if (Transaction.current(transactions)) {
      log.warn(
        '`runner.transaction()` was called inside another one; its tasks do not depend on the outer transaction. For a savepoint, call the outer `join` again',
      );
    }
    const { result, isJoined } = await runTransaction(transactions, func);
    if (!isJoined)
      log.warn('`runner.transaction()` ended without calling `join`, so no task was part of the transaction; call `join` around the work');
    return result;
  }

  /**
   * The task with this id, while it waits or runs in this process. A task for an engine is found until the engine has it.
   */
  find(id: string): BackgroundTask | undefined {
    return this.#runner.tasksById.get(id);
  }

  /**
   * The state of the task with this id: from this process while the task waits or runs here, and from the engine once the engine has it.
   * Any process can look up the tasks of an engine.
   *
   * In process, the states of the last 1000 ended tasks whose `id` was read are kept. An engine keeps ended tasks for as long as it is
   * configured to.
   *
   * @returns undefined for a task that is unknown, or no longer kept
   * @throws The error of the engine, if its server cannot be reached.
   */
  state(id: string): Promise<TaskState | undefined> {
    return this.#runner.state(id);
  }

  /**
   * Resolves when no task is pending or active and every `onError` has ended. A test can call it as soon as it has the response: tasks are
   * pending from the moment they are added.
   */
  onIdle(): Promise<void> {
    this.#runner.idleRequested();
    return this.#runner.counters.onAllSettled();
  }
}
