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
 * The states of a request, a message or a unit of work, and the events that lead from one to the next. Its tasks run when it enters `flushed`.
 *
 * - `waiting`: no handler was reached, and the response is open.
 * - `handling`: a handler is at work, and the response is open. An event stream ends here when the shutdown begins.
 * - `ending`: the handlers have settled, and the response is open.
 * - `left`: the client left before a handler was reached. The request may reach one all the same, or be answered, or neither.
 * - `closing`: the response is over, and a handler is at work. A message, which has no response to wait for, begins in `left`.
 * - `settling`: the response is over and the handlers have settled. One that follows, such as the resolver of a field, starts in this turn.
 * - `flushed`: the outcome is known. A handler that starts after that withdraws it.
 */
const TRANSITIONS = {
  waiting: { handlerStarted: 'handling', answered: 'flushed', clientLeft: 'left' },
  handling: { handlersSettled: 'ending', answered: 'closing', clientLeft: 'closing', shutdownBegan: 'flushed' },
  ending: { handlerStarted: 'handling', answered: 'flushed', clientLeft: 'flushed' },
  left: { handlerStarted: 'closing', answered: 'flushed', leftAlone: 'flushed' },
  closing: { handlersSettled: 'settling' },
  settling: { handlerStarted: 'closing', turnEnded: 'flushed' },
  flushed: { handlerStarted: 'closing' },
} as const satisfies Record<string, Partial<Record<LifetimeEvent, string>>>;

export type LifetimeState = keyof typeof TRANSITIONS;
export type LifetimeEvent = 'handlerStarted' | 'handlersSettled' | 'answered' | 'clientLeft' | 'leftAlone' | 'turnEnded' | 'shutdownBegan';

/** The call of `within()` that the current code is part of; entered on Node 24 and later only, for a line in the log. */
const withinStorage = new AsyncLocalStorage<WorkLifetime>();

let lifetimesBegun = 0;

/** When a request, a message or a unit of work is over, and how it ended. It has the list of its tasks. */
export abstract class Lifetime implements TasksTarget {
  readonly runner: Runner;
  state: LifetimeState;
  /** In the order of their beginnings. */
  readonly #number = ++lifetimesBegun;
  /** Made with the first task. */
  protected list: TaskList | undefined;
  protected hasFailed = false;
  #handlersAtWork = 0;
  /** The tasks of a run of the handler that failed. If another run follows, that one decides for its own tasks only. */
  #ofFailedRun: readonly Task[] = [];
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

  /** @param isFollowing true for code that has followed its request here, by its async context, and may well outlive it */
  add(task: Task, isFollowing = false): void {
    this.#warnIfPastWithin(task);
    const list = (this.list ??= this.#makeList());
    if (list.isDone) this.runner.addLate(list, task, isFollowing);
    else this.runner.add(list, task);
  }

  /** Code in a call of `within()` that adds a task to the list of the request around it most likely wants the list of that call. */
  #warnIfPastWithin(task: Task): void {
    const work: Lifetime | undefined = withinStorage.getStore();
    if (!work || work === this || work.state === 'flushed' || work.runner !== this.runner) return;
    // A request that began in that call, with `inject()` for example, has a list of its own.
    if (this.#number < work.#number) this.runner.log.addedPastWithin(task);
  }

  /** The list of a request that is over already takes late tasks. */
  #makeList(): TaskList {
    const list = new TaskList(this.runner);
    if (this.#finalOutcome) this.runner.flush(list, this.#finalOutcome);
    return list;
  }

  /** @param isEndless true if the shutdown does not wait for the handler */
  handlerStarted(_isEndless = false): void {
    this.#handlersAtWork += 1;
    this.on('handlerStarted');
  }

  handlerSettled(): void {
    this.#handlersAtWork -= 1;
    if (this.#handlersAtWork === 0) this.on('handlersSettled');
  }

  /**
   * To be called as the handler itself is called, which an interceptor may do several times, as `retry()` of rxjs does. Returns a function to
   * call if this run fails: the outcome of its tasks is a failure if another run follows.
   */
  runStarted(): () => void {
    for (const task of this.#ofFailedRun) task.markFailedRun();
    this.#ofFailedRun = [];
    const before = this.list?.addedCount ?? 0;
    return () => {
      if (this.list) this.#ofFailedRun = [...this.#ofFailedRun, ...this.list.waitingSince(before)];
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

  /** Takes note that Nest reads the first part of a handler's result when the interceptors are through. */
  markStreaming(): void {}

  /** The flushes to the engine in flight. A handler that starts now need not wait for them. */
  get unacknowledged(): ReadonlySet<Promise<void>> | undefined {
    return this.list?.engineFlush?.unacknowledged;
  }

  /** Flushes tasks to the engine that it is to have before the answer. Rejects if it does not take in time those flushed since `before`. */
  flushBeforeResponse(outcome: Outcome, before?: ReadonlySet<Promise<void>>): Promise<void> | undefined {
    return this.list?.engineFlush?.flushBeforeResponse(outcome, before);
  }

  /** Goes to the next state, if the table has one for the event. */
  protected on(event: LifetimeEvent): void {
    const next = (TRANSITIONS[this.state] as Partial<Record<LifetimeEvent, LifetimeState>>)[event];
    if (next === undefined) return;
    if (this.state === 'flushed') this.#withdrawOutcome();
    this.state = next;
    // The result of a handler may be an Observable, which is at work as soon as Nest subscribes to it.
    if (next === 'settling') setImmediate(() => this.on('turnEnded'));
    if (next === 'flushed') this.flush();
  }

  /** Called once, in state `flushed`, when the request is over. */
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

  /** Logs the refusal of a task that no code caught: Nest logs no `HttpException`. The refusals of an engine have been reported. */
  protected reportRefusal(error: RefusedError): void {
    if (error.code !== 'ENGINE') this.runner.log.refused(error);
  }
}

/** The rejection of `run()` for a list that is not made by hand. */
export function runsByItself(): Promise<never> {
  return Promise.reject(
    new BackgroundTasksError(
      'LIST_OF_A_REQUEST',
      'The list of a request runs by itself once the response is out; `run()` is for a list made by hand with `new BackgroundTasks()`',
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
 * One message of a microservice or a gateway, or one GraphQL subscription. There is no response to wait for, only handlers to end: the transport
 * has the reply by then, and the runner starts nothing in the middle of the current event.
 */
export class MessageLifetime extends Lifetime {
  private constructor(runner: Runner) {
    super(runner, 'left');
  }

  /** The lifetime of a message, by the object that stands for it: the same one for everybody who asks. */
  static of(message: object, runner: Runner): MessageLifetime {
    const known = lifetimes.get(message);
    if (known instanceof MessageLifetime) return known;
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
    // Nothing would tell when the message is over: the task would never run.
    if (this.state === 'left') throw unseenMessage(task);
    super.add(task, isFollowing);
  }
}

function unseenMessage(task: Task): BackgroundTasksError {
  return new BackgroundTasksError(
    'UNSUPPORTED_CONTEXT',
    `${taskCalled(task.name)} was refused: BackgroundTasksInterceptor has not seen its message. Guards run before it: add the task ` +
      `in the handler, or in an interceptor; ${BIND_INTERCEPTOR}`,
  );
}
