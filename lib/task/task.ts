import { AsyncResource } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import type { AnyFunction, BackgroundTask, JsonValue, TaskEnd, TaskOptions, TaskState } from './background-task.js';
import { type TaskCaller, callTask, isObject, unfinishedPart } from './call.js';
import { runAs, runOutside } from './current-task.js';
import { messageOf, nameOf } from './describe.js';
import { isObserved, traced } from './diagnostics.js';
import { BackgroundTasksCancelledError, BackgroundTasksError, BackgroundTasksTimeoutError, taskCalled } from './errors.js';
import { PENDING, type State, type TaskPhase } from './states.js';

/** The list that a task belongs to. */
export interface TaskOwner {
  /** The tasks of the application whose ids have been read. */
  readonly tasksById: TasksById;
  /** Called when a task is cancelled before it starts. */
  cancelled(task: Task, reason: string): void;
  /** Called when `ended` of a task is read. */
  endedRequested(task: Task): void;
  /** Called when a task has ended and been reported, so that nothing is left to do for it. */
  onTaskSettled(): void;
}

/** The number of ended tasks whose states are kept. */
const MAX_ENDED = 1_000;

/** The tasks of an application whose ids have been read: all that have not ended, and the states of the latest that have. */
export class TasksById {
  readonly #tasks = new Map<string, Task>();
  readonly #ended = new Map<string, TaskState>();

  get(id: string): Task | undefined {
    return this.#tasks.get(id);
  }

  add(id: string, task: Task): void {
    this.#tasks.set(id, task);
  }

  /** Releases a task that has ended. Its state is kept, unless an engine has the task now. */
  end(id: string, state: TaskState | undefined): void {
    this.#tasks.delete(id);
    if (!state) return;
    this.#ended.set(id, state);
    if (this.#ended.size > MAX_ENDED) this.#ended.delete(this.#ended.keys().next().value!);
  }

  stateOf(id: string): TaskState | undefined {
    return this.#tasks.get(id)?.snapshot(id) ?? this.#ended.get(id);
  }
}

/** Called at the end of a run of a task. */
export interface RunObserver {
  completed(task: Task): void;
  /** Also called for a task that was cancelled while it ran; its state says so. */
  failed(task: Task, error: unknown): void;
  /** Called when the function of an aborted task has ended after all. */
  endedLate(task: Task, how: 'completed' | 'failed', error?: unknown): void;
}

/** The additional data of a task of a `@BackgroundTask()` method. */
export interface TaskBinding {
  readonly name: string;
  /** The id of the task in the engine, if it has one. */
  readonly id: string | undefined;
  readonly attempt: number;
  readonly attempts: number;
  readonly carried: unknown;
  /** In a worker, the id of the job. Only the engine can withdraw such a task. */
  readonly jobId: string | undefined;
  /** Stores the progress where other processes find it, if there is such a place. Never rejects. */
  writeProgress(value: JsonValue): Promise<void> | undefined;
  call(args: readonly unknown[]): unknown;
  /** Releases everything that belongs to the request. */
  release(): void;
}

/** Data that only some tasks need. Many tasks may wait, so it is allocated on demand. */
interface Details {
  id?: string;
  ended?: Promise<TaskEnd>;
  resolveEnded?: (end: TaskEnd) => void;
  controller?: AbortController | undefined;
  timer?: NodeJS.Timeout;
  abortError?: Error | undefined;
  /** True while the function of an aborted task still runs. */
  isAbandoned?: boolean;
  /** True if the task was added in a run of its handler that failed and was retried. */
  isOfFailedRun?: boolean;
  progress?: JsonValue;
  /** The message of the error that the task failed with. */
  failure?: string;
  /** True if the task was added in a transaction that was committed. */
  isCommitted?: boolean;
}

/** Replaces the function of a task that has ended. */
const DONE = (): void => {};
const NO_ARGS: readonly unknown[] = Object.freeze([]);

/** Replaces the list of a task that has ended. */
const RELEASED: TaskOwner = { tasksById: new TasksById(), cancelled() {}, endedRequested() {}, onTaskSettled() {} };

/** The state that callers see. A task that an engine has is no longer tracked in this process. */
const SHOWN_STATES: Readonly<Record<TaskPhase, TaskState['state'] | undefined>> = {
  pending: 'waiting',
  sending: 'waiting',
  active: 'running',
  completed: 'completed',
  failed: 'failed',
  discarded: 'discarded',
  cancelled: 'cancelled',
  queued: undefined,
};

/** A copy of the progress that a task reports: the task may change the original later. */
function jsonCopy(name: string, value: JsonValue): JsonValue {
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    // The error may quote the value.
  }
  if (text !== undefined) return JSON.parse(text) as JsonValue;
  throw new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `${taskCalled(name)} set its progress to a value that JSON cannot represent; pass plain data`,
  );
}

/**
 * The implementation behind `BackgroundTask`.
 *
 * Its fields are private so that a frozen task works: `Object.freeze()` leaves private fields writable. No method is private, as private
 * methods cost each instance a field.
 */
export class Task implements BackgroundTask {
  /**
   * An instance that is never collected. If a full garbage collection finds no task, V8 discards the code that it has optimised for tasks,
   * and the next tasks take almost twice as long (700 instead of 400 ns each on Node 20).
   */
  static readonly kept = new Task(DONE, NO_ARGS, {});

  readonly options: Readonly<TaskOptions>;
  /** The function, or its name once the task has released it. */
  #funcOrName: AnyFunction | string;
  #args: readonly unknown[];
  #binding: TaskBinding | undefined;
  /**
   * The async context of the code that made the task. Capturing it does not turn on async hooks; entering a store would, on Node 20 and 22.
   */
  #scope: AsyncResource | undefined = new AsyncResource('BackgroundTask');
  #state: State = PENDING;
  #owner: TaskOwner | undefined;
  #next: Task | undefined;
  #details: Details | undefined;
  /** Set while the function's promise is awaited. */
  #observer: RunObserver | undefined;

  constructor(func: AnyFunction, args: readonly unknown[], options: Readonly<TaskOptions>, binding?: TaskBinding) {
    this.options = options;
    this.#funcOrName = func;
    this.#args = args;
    this.#binding = binding;
  }

  /** True for an instance of this class. False for a proxy of one, which has none of its private fields. */
  static isTask(value: unknown): value is Task {
    return typeof value === 'object' && value !== null && #state in value;
  }

  get func(): AnyFunction {
    return typeof this.#funcOrName === 'string' ? DONE : this.#funcOrName;
  }

  get args(): readonly unknown[] {
    return this.#args;
  }

  get binding(): TaskBinding | undefined {
    return this.#binding;
  }

  get name(): string {
    if (this.#binding) return this.#binding.name;
    return this.options.name ?? (typeof this.#funcOrName === 'string' ? this.#funcOrName : nameOf(this.#funcOrName));
  }

  get id(): string {
    const details = this.ensureDetails();
    if (details.id === undefined) {
      details.id = this.#binding?.id ?? randomUUID();
      if (!this.hasEnded) this.#owner?.tasksById.add(details.id, this);
    }
    return details.id;
  }

  get attempt(): number {
    return this.#binding?.attempt ?? 1;
  }

  /** The most attempts that the task may take. */
  get attempts(): number {
    return this.#binding?.attempts ?? 1;
  }

  get carried(): unknown {
    return this.#binding?.carried;
  }

  /** The id of the job, in a worker. */
  get jobId(): string | undefined {
    return this.#binding?.jobId;
  }

  get progress(): JsonValue | undefined {
    return this.#details?.progress;
  }

  updateProgress(value: JsonValue): Promise<void> {
    const progress = jsonCopy(this.name, value);
    this.ensureDetails().progress = progress;
    return this.#binding?.writeProgress(progress) ?? Promise.resolve();
  }

  /** The state of the task for callers; undefined once an engine has the task. */
  snapshot(id: string): TaskState | undefined {
    const state = SHOWN_STATES[this.#state.name];
    if (state === undefined) return undefined;
    const { progress, failure } = this.ensureDetails();
    return {
      id,
      name: this.name,
      state,
      attempt: this.attempt,
      ...(progress !== undefined && { progress }),
      ...(failure !== undefined && { failure }),
    };
  }

  get signal(): AbortSignal {
    const details = this.ensureDetails();
    if (!details.controller) {
      details.controller = new AbortController();
      if (details.abortError) details.controller.abort(details.abortError);
    }
    return details.controller.signal;
  }

  get ended(): Promise<TaskEnd> {
    const details = this.ensureDetails();
    if (!this.hasEnded) this.#owner?.endedRequested(this);
    return (details.ended ??= runOutside(
      () =>
        new Promise((resolve) => {
          if (this.#state.end) resolve(this.#state.end);
          else details.resolveEnded = resolve;
        }),
    ));
  }

  get state(): TaskPhase {
    return this.#state.name;
  }

  get hasEnded(): boolean {
    return this.#state.end !== undefined;
  }

  /** True once the task has been aborted, at its timeout, by `cancel()` or by a shutdown. */
  get isAborted(): boolean {
    return this.#details?.abortError !== undefined;
  }

  /** True if the task was added in a run of its handler that failed and was retried. */
  get isOfFailedRun(): boolean {
    return this.#details?.isOfFailedRun === true;
  }

  markFailedRun(): void {
    this.ensureDetails().isOfFailedRun = true;
  }

  /** True if the task was added in a transaction that was committed. It runs whatever the outcome of its request. */
  get isCommitted(): boolean {
    return this.#details?.isCommitted === true;
  }

  markCommitted(): void {
    this.ensureDetails().isCommitted = true;
  }

  /** The list of the task; undefined for one made by hand. */
  get owner(): TaskOwner | undefined {
    return this.#owner;
  }

  set owner(owner: TaskOwner | undefined) {
    this.#owner = owner;
  }

  /** The task after this one in its queue. */
  get next(): Task | undefined {
    return this.#next;
  }

  set next(next: Task | undefined) {
    this.#next = next;
  }

  toJSON(): { name: string } {
    return { name: this.name };
  }

  /** The text that `console.log` prints. */
  [inspect.custom](): string {
    return `BackgroundTask { name: '${this.name}' }`;
  }

  cancel(reason = 'no reason was given'): boolean {
    // Comes first, as converting a value that is not a string may throw.
    const why = String(reason);
    if (this.jobId !== undefined) return false;
    if (this.#state.name === 'active') return this.abort(new BackgroundTasksCancelledError(this.name, why));
    if (!this.enter(this.#state.cancel)) return false;
    this.#owner?.cancelled(this, why);
    return true;
  }

  async run(): Promise<void> {
    if (this.#owner) {
      throw new BackgroundTasksError(
        'BACKGROUND_TASK_LIST_OF_A_REQUEST',
        `${taskCalled(this.name)} runs by itself after the response; \`run()\` is for a task made by hand`,
      );
    }
    const { name: state } = this.#state;
    if (state === 'active' || state === 'cancelled') {
      const why = state === 'active' ? 'is already running: await the first run()' : 'was cancelled: create a new one';
      throw new BackgroundTasksError('BACKGROUND_TASK_INVALID_TASK', `${taskCalled(this.name)} ${why}`);
    }
    await this.runToEnd(this.options.timeout, () => {});
  }

  /** Marks the task as on its way to an engine. */
  sent(): void {
    this.enter(this.#state.send);
  }

  /** Marks the task as taken by an engine. */
  queued(): void {
    this.enter(this.#state.queue);
  }

  /** Ends a task that will never start. Returns false if the task has started or ended. */
  discard(): boolean {
    return this.enter(this.#state.discard);
  }

  /** Enters the state that follows on an event. Returns false, and changes nothing, if the table has no such state. */
  enter(next: State | undefined): boolean {
    if (!next) return false;
    this.#state = next;
    const details = this.#details;
    if (details && next.end) {
      if (details.id !== undefined) this.#owner?.tasksById.end(details.id, this.snapshot(details.id));
      details.resolveEnded?.(next.end);
    }
    return true;
  }

  /** Calls a function in the async context of the code that made the task. */
  runInScope<Result>(func: () => Result): Result {
    return this.#scope ? this.#scope.runInAsyncScope(func) : func();
  }

  /** Calls the function of the task. */
  call(): unknown {
    if (this.#binding) return this.#binding.call(this.#args);
    const { func } = this;
    return func(...(this.#args as never[]));
  }

  /** Runs the task. The promise settles as the function does, or rejects as soon as the task is aborted. */
  runToEnd(timeout: number | undefined, endedLate: RunObserver['endedLate'], caller?: TaskCaller): Promise<void> {
    return new Promise((resolve, reject) =>
      this.start(timeout, { completed: () => resolve(), failed: (_, error) => reject(error), endedLate }, caller),
    );
  }

  /** Runs the task. The observer is called at its end: before this method returns, unless there is a promise to wait for. */
  start(timeout: number | undefined, observer: RunObserver, caller?: TaskCaller): void {
    this.enter(this.#state.start);
    // A task made by hand may be run again.
    if (this.#details?.abortError) this.#details.abortError = this.#details.controller = undefined;
    if (isObserved()) return this.startTraced(timeout, observer, caller);
    let result: PromiseLike<unknown> | undefined;
    try {
      result = this.#scope ? this.#scope.runInAsyncScope(callTask, undefined, this, caller) : callTask(this, caller);
    } catch (error) {
      return this.failed(error, observer);
    }
    if (result) void this.waitForResult(result, timeout, observer);
    else this.completed(observer);
  }

  /** Runs the task if it is traced. A tracer needs a promise for the end of the task. */
  startTraced(timeout: number | undefined, observer: RunObserver, caller: TaskCaller | undefined): void {
    let end: Promise<void> | undefined;
    try {
      end = this.runInScope(() => traced(this, () => this.callTraced(timeout, observer, caller)));
    } catch (error) {
      return this.failed(error, observer);
    }
    if (!end) return this.completed(observer);
    end.then(
      () => observer.completed(this),
      (error: unknown) => observer.failed(this, error),
    );
  }

  callTraced(timeout: number | undefined, observer: RunObserver, caller: TaskCaller | undefined): Promise<void> | undefined {
    const result = callTask(this, caller);
    if (!result) return undefined;
    return new Promise((resolve, reject) => {
      const endedLate: RunObserver['endedLate'] = (...how) => observer.endedLate(...how);
      void this.waitForResult(result, timeout, { completed: () => resolve(), failed: (_, error) => reject(error), endedLate });
    });
  }

  /** Waits for the end of the running function. Uses only `await`, as the methods of a foreign promise may throw, or call back twice. */
  async waitForResult(result: PromiseLike<unknown>, timeout: number | undefined, observer: RunObserver): Promise<void> {
    const details = this.#details;
    if (details?.abortError) {
      details.isAbandoned = true;
      observer.failed(this, details.abortError);
    } else {
      this.#observer = observer;
      if (timeout !== undefined) {
        this.ensureDetails().timer = setTimeout(() => this.abort(new BackgroundTasksTimeoutError(this.name, timeout)), timeout);
      }
    }
    let failure: { readonly error: unknown } | undefined;
    try {
      const value = await result;
      if (isObject(value)) await this.runInScope(() => runAs(this, () => unfinishedPart(this, value)));
    } catch (error) {
      failure = { error };
    }
    if (this.#observer !== observer) return this.endedLate(failure, observer);
    this.stopWaiting();
    if (failure) this.failed(failure.error, observer);
    else this.completed(observer);
  }

  stopWaiting(): void {
    this.#observer = undefined;
    clearTimeout(this.#details?.timer);
  }

  completed(observer: RunObserver): void {
    if (this.#details?.abortError) return observer.failed(this, this.#details.abortError);
    this.enter(this.#state.complete);
    observer.completed(this);
  }

  failed(error: unknown, observer: RunObserver): void {
    if (this.#details?.abortError) {
      observer.failed(this, this.#details.abortError);
      return observer.endedLate(this, 'failed', error);
    }
    this.markFailed(error);
    observer.failed(this, error);
  }

  markFailed(error: unknown): void {
    if (this.#details?.id !== undefined) this.#details.failure = messageOf(error);
    this.enter(this.#state.fail);
  }

  endedLate(failure: { readonly error: unknown } | undefined, observer: RunObserver): void {
    observer.endedLate(this, failure ? 'failed' : 'completed', failure?.error);
    this.ensureDetails().isAbandoned = false;
    if (typeof this.#funcOrName === 'string') this.#scope = undefined;
  }

  /** Fires the signal of a running task, and stops waiting for it. Returns false if the task was not running. */
  abort(error: Error): boolean {
    if (this.#state.name !== 'active') return false;
    if (error instanceof BackgroundTasksCancelledError) this.enter(this.#state.cancel);
    else this.markFailed(error);
    const details = this.ensureDetails();
    details.abortError = error;
    const { controller } = details;
    if (controller) this.runInScope(() => controller.abort(error));
    // Undefined while the function has not returned yet.
    const observer = this.#observer;
    this.stopWaiting();
    if (observer) {
      details.isAbandoned = true;
      observer.failed(this, error);
    }
    return true;
  }

  /**
   * Releases everything that belongs to the request once the task will no longer be run or reported, as callers may keep the task. A
   * function that is still running keeps its async context, for the log line about its end.
   */
  release(): void {
    if (this.#binding) {
      if (this.#binding.id !== undefined) this.ensureDetails().id ??= this.#binding.id;
      this.#binding.release();
    }
    this.#funcOrName = this.name;
    this.#args = NO_ARGS;
    if (!this.#details?.isAbandoned) this.#scope = undefined;
    this.#owner?.onTaskSettled();
    if (this.#owner) this.#owner = RELEASED;
  }

  ensureDetails(): Details {
    return (this.#details ??= {});
  }
}
