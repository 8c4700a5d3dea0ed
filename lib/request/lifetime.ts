import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate } from 'node:timers';
import { type Outcome, TaskList } from '../list/task-list.js';
import type { Runner } from '../runner/runner.js';
import { STORES_ARE_FREE } from '../task/current-task.js';
import { BackgroundTasksError, RefusedError, taskCalled } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { type BackgroundTasks, type TasksTarget, tasksFor } from './background-tasks.js';
import { BIND_INTERCEPTOR, lifetimes } from './context.js';

/**
 * The states of a request, a message or a unit of work, and the events that lead from one to the next. Its tasks run when it enters
 * `flushed`.
 *
 * - `waiting`: no handler was reached, and the response is open.
 * - `handling`: a handler is running, and the response is open. An event stream ends here when the shutdown begins.
 * - `ending`: the handlers have settled, and the response is open.
 * - `left`: the client left before a handler was reached. The request may still reach one, or be answered, or neither.
 * - `closing`: the response is over, and a handler is running. A message, which has no response to wait for, begins in `left`.
 * - `settling`: the response is over, and the handlers have settled. A handler that follows, such as a field's resolver, starts in this
 * turn.
 * - `flushed`: the outcome is known. A handler that starts after that withdraws it.
 */
const TRANSITIONS = {
  waiting: { handlerStarted: 'handling', answered: 'flushed', clientLeft: 'left' },
  handling: { handlersSettled: 'ending', answered: 'closing', clientLeft: 'closing', shutdownBegan: 'flushed' },
  ending: { handlerStarted: 'handling', answered: 'flushed', clientLeft: 'flushed' },
  left: { handlerStarted: 'closing', answered: 'flushed', graceEnded: 'flushed' },
  closing: { handlersSettled: 'settling' },
  settling: { handlerStarted: 'closing', turnEnded: 'flushed' },
  flushed: { handlerStarted: 'closing' },
} as const satisfies Record<string, Partial<Record<LifetimeEvent, string>>>;

export type LifetimeState = keyof typeof TRANSITIONS;
export type LifetimeEvent = 'handlerStarted' | 'handlersSettled' | 'answered' | 'clientLeft' | 'graceEnded' | 'turnEnded' | 'shutdownBegan';

/** The call of `within()` that the current code is part of. Entered only on Node 24 and later, for a warning. */
const withinStorage = new AsyncLocalStorage<WorkLifetime>();

let lifetimesBegun = 0;

/** The run around the interceptors of a handler, and the one of the handler itself. */
const RUNS_OF_A_HANDLER = 2;

/** The lifetime of a request, a message or a unit of work: when it is over, and how it ended. It has the list of its tasks. */
export abstract class Lifetime implements TasksTarget {
  readonly runner: Runner;
  state: LifetimeState;
  /** The order in which lifetimes began. */
  readonly #number = ++lifetimesBegun;
  /** Created with the first task. */
  protected list: TaskList | undefined;
  protected hasFailed = false;
  #handlersAtWork = 0;
  #handlersBegun = 0;
  /** The tasks added in a failed run of a handler, by its arguments. If another run follows, its outcome does not apply to them. */
  #ofFailedRuns: Map<unknown, Task[]> | undefined;
  #injected: BackgroundTasks | undefined;
  /** Undefined unless the state is `flushed`. */
  #finalOutcome: Outcome | undefined;

  constructor(runner: Runner, state: LifetimeState) {
    this.runner = runner;
    this.state = state;
  }

  /** The `BackgroundTasks` of users. */
  get injected(): BackgroundTasks {
    return (this.#injected ??= tasksFor(this));
  }

  get tasks(): readonly Task[] {
    return this.list?.tasks ?? [];
  }

  run(): Promise<void> {
    return runsByItself();
  }

  /** @param isFollowing true if the code found its request through the async context, and may outlive it */
  add(task: Task, isFollowing = false): void {
    this.#warnIfPastWithin(task);
    const list = (this.list ??= this.#makeList());
    if (list.isDone) this.runner.addLate(list, task, isFollowing);
    else this.runner.add(list, task);
  }

  /** Warns if code inside `within()` adds a task to the list of the surrounding request: it most likely wants the list of that call. */
  #warnIfPastWithin(task: Task): void {
    const work: Lifetime | undefined = withinStorage.getStore();
    if (!work || work === this || work.state === 'flushed' || work.runner !== this.runner) return;
    // A request that began in that call, with `inject()` for example, has a list of its own.
    if (this.#number < work.#number) this.runner.log.addedPastWithin(task);
  }

  /** Makes the list. If the request is already over, the list accepts late tasks. */
  #makeList(): TaskList {
    const list = new TaskList(this.runner);
    if (this.#finalOutcome) this.runner.flush(list, this.#finalOutcome);
    return list;
  }

  /** @param isEndless true if the shutdown does not wait for the handler */
  handlerStarted(_isEndless = false): void {
    this.#handlersAtWork += 1;
    this.#handlersBegun += 1;
    this.on('handlerStarted');
  }

  handlerSettled(): void {
    this.#handlersAtWork -= 1;
    if (this.#handlersAtWork === 0) this.on('handlersSettled');
  }

  /**
   * Call it before each call of the handler itself: an interceptor may call the handler several times, for example with `retry()` of rxjs.
   * Each of these calls gets the same arguments. If another run follows, the tasks of a failed run have the outcome failure.
   *
   * @param isShared true if other handlers of the request may be at work: then the tasks of one cannot be told from those of the others
   * @returns A function to call if the run fails.
   */
  runStarted(args: unknown, isShared: boolean): () => void {
    for (const task of this.#ofFailedRuns?.get(args) ?? []) task.markFailedRun();
    this.#ofFailedRuns?.delete(args);
    const before = this.list?.isIdle === false ? new Set(this.list) : undefined;
    const begun = this.#handlersBegun;
    const isAlone = this.#handlersAtWork <= RUNS_OF_A_HANDLER;
    return () => {
      if (!this.list || (isShared && (!isAlone || this.#handlersBegun > begun))) return;
      this.#ofFailedRuns ??= new Map();
      this.#ofFailedRuns.set(
        args,
        [...this.list].filter((task) => !before?.has(task)),
      );
    };
  }

  protected get hasHandlerAtWork(): boolean {
    return this.#handlersAtWork > 0;
  }

  /** Makes the outcome a failure. */
  markFailed(error?: unknown): void {
    this.hasFailed = true;
    if (error instanceof RefusedError) this.reportRefusal(error);
  }

  /** Marks the result of a handler as a stream, whose first chunk Nest reads after the interceptors have run. */
  markStreaming(): void {}

  /** The flushes to the engine in flight. A handler that starts now need not wait for them. */
  get unacknowledged(): ReadonlySet<Promise<void>> | undefined {
    return this.list?.engineFlush?.unacknowledged;
  }

  /**
   * Flushes the tasks that the engine must have before the answer. Rejects if it does not take all that were flushed since `before` in
   * time.
   */
  flushBeforeResponse(outcome: Outcome, before?: ReadonlySet<Promise<void>>): Promise<void> | undefined {
    return this.list?.engineFlush?.flushBeforeResponse(outcome, before);
  }

  /** Goes to the next state, if the table has one for the event. */
  protected on(event: LifetimeEvent): void {
    const next = (TRANSITIONS[this.state] as Partial<Record<LifetimeEvent, LifetimeState>>)[event];
    if (next === undefined) return;
    if (this.state === 'flushed') this.#withdrawOutcome();
    this.state = next;
    // The result of a handler may be an Observable, to which Nest subscribes in this turn.
    if (next === 'settling') setImmediate(() => this.on('turnEnded'));
    if (next === 'flushed') this.flush();
  }

  /** Called when the request enters the state `flushed`. */
  protected flush(): void {
    this.#finalOutcome = this.outcome;
    if (this.list) this.runner.flush(this.list, this.#finalOutcome);
  }

  #withdrawOutcome(): void {
    this.#finalOutcome = undefined;
    if (this.list) this.list.outcome = undefined;
  }

  protected get outcome(): Outcome {
    return this.hasFailed ? 'failure' : 'success';
  }

  /**
   * Logs the refusal of a task that nothing caught, as Nest does not log an `HttpException`. Refusals by an engine are already reported.
   */
  protected reportRefusal(error: RefusedError): void {
    if (error.code !== 'BACKGROUND_TASK_ENGINE') this.runner.log.refused(error);
  }
}

/** The result of `run()` for a list that was not made by hand. */
export function runsByItself(): Promise<never> {
  return Promise.reject(
    new BackgroundTasksError(
      'BACKGROUND_TASK_LIST_OF_A_REQUEST',
      'The list of a request runs by itself after the response; `run()` is for a list made by hand with `new BackgroundTasks()`',
    ),
  );
}

/** One call of `within()`: over when its function has settled. */
export class WorkLifetime extends Lifetime {
  constructor(runner: Runner) {
    super(runner, 'left');
  }

  /** Calls the function of `within()`. */
  callWithin<Result>(func: () => Result): Result {
    return STORES_ARE_FREE ? withinStorage.run(this, func) : func();
  }

  /** The caller of `within()` gets the error. */
  override markFailed(): void {
    this.hasFailed = true;
  }

  override handlerStarted(): void {
    this.runner.counters.handlerStarted();
    super.handlerStarted();
  }

  override handlerSettled(): void {
    super.handlerSettled();
    // No other handler follows.
    this.on('turnEnded');
    this.runner.counters.handlerSettled();
  }
}

/**
 * One message of a microservice or a gateway, or one GraphQL subscription. There is no response to wait for: it is over when its handlers
 * have ended. By then the transport has the reply, and the runner starts nothing during the current event.
 */
export class MessageLifetime extends Lifetime {
  private constructor(runner: Runner) {
    super(runner, 'left');
  }

  /** The lifetime of a message, by the object that represents it. Every call returns the same one. */
  static of(message: object, runner: Runner): MessageLifetime {
    const existing = lifetimes.get(message);
    if (existing instanceof MessageLifetime) return existing;
    const lifetime = new MessageLifetime(runner);
    lifetimes.set(message, lifetime);
    return lifetime;
  }

  override handlerStarted(): void {
    this.runner.counters.handlerStarted();
    super.handlerStarted();
  }

  override handlerSettled(): void {
    super.handlerSettled();
    this.runner.counters.handlerSettled();
  }

  override add(task: Task, isFollowing?: boolean): void {
    // The end of the message would go unnoticed, and the task would never run.
    if (this.state === 'left') throw unseenMessage(task);
    super.add(task, isFollowing);
  }
}

function unseenMessage(task: Task): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
    `${taskCalled(task.name)} was refused: BackgroundTasksInterceptor has not seen its message. Guards run before the interceptor: add the task ` +
      `in the handler, or in an interceptor; ${BIND_INTERCEPTOR}`,
  );
}
