/** Counts the work of an application, and resolves promises for its end. Each method is an event of a task or a handler. */
export class Counters {
  /** Tasks that have not started yet. */
  #pending = 0;
  /** Running tasks. */
  #active = 0;
  /** Running handlers, including those without tasks: each may still add one. */
  #handlers = 0;
  /** Reports in progress, such as calls of `onError`. */
  #reports = 0;
  /** Tasks and calls of `onError` that themselves wait for the shutdown. */
  #shutdownCallers = 0;
  /** Aborted tasks whose functions are still running. */
  #abandoned = 0;
  #discarded = 0;
  readonly #onAllSettled: (() => void)[] = [];
  readonly #onCanClose: (() => void)[] = [];
  readonly #onAbandonedEnded: (() => void)[] = [];

  get pending(): number {
    return this.#pending;
  }

  get active(): number {
    return this.#active;
  }

  get discarded(): number {
    return this.#discarded;
  }

  /** True if no task is pending or active, and each has been reported. */
  get allSettled(): boolean {
    return this.#pending === 0 && this.#active === 0 && this.#reports === 0;
  }

  /** True if a shutdown can proceed: no task is left, and no running handler could add one. Work that waits for the shutdown is ignored. */
  get canClose(): boolean {
    return this.#pending === 0 && this.#handlers === 0 && this.#active + this.#reports <= this.#shutdownCallers;
  }

  get hasHandlers(): boolean {
    return this.#handlers > 0;
  }

  /** True if some work waits for the shutdown. */
  get hasShutdownCallers(): boolean {
    return this.#shutdownCallers > 0;
  }

  taskAdmitted(): void {
    this.#pending += 1;
  }

  taskStarted(): void {
    this.#pending -= 1;
    this.#active += 1;
  }

  taskEnded(): void {
    this.#active -= 1;
  }

  /** For tasks that will never start. */
  tasksDropped(count: number): void {
    this.#pending -= count;
  }

  /** For a task that will never start because of an outcome, a failed task before it, or `cancel()`. */
  taskDiscarded(): void {
    this.#pending -= 1;
    this.#discarded += 1;
  }

  handlerStarted(): void {
    this.#handlers += 1;
  }

  handlerSettled(): void {
    this.#handlers -= 1;
    this.notify();
  }

  reportStarted(): void {
    this.#reports += 1;
  }

  reportEnded(): void {
    this.#reports -= 1;
  }

  shutdownCallerFound(): void {
    this.#shutdownCallers += 1;
    this.notify();
  }

  shutdownCallerEnded(): void {
    this.#shutdownCallers -= 1;
  }

  taskAbandoned(): void {
    this.#abandoned += 1;
  }

  abandonedTaskEnded(): void {
    this.#abandoned -= 1;
    this.notify();
  }

  onAllSettled(): Promise<void> {
    return this.allSettled ? Promise.resolve() : new Promise((resolve) => this.#onAllSettled.push(resolve));
  }

  onCanClose(): Promise<void> {
    return this.canClose ? Promise.resolve() : new Promise((resolve) => this.#onCanClose.push(resolve));
  }

  /** Resolves when all work has settled and the functions of aborted tasks have ended. */
  onAbandonedEnded(): Promise<void> {
    return this.#noneAbandoned ? Promise.resolve() : new Promise((resolve) => this.#onAbandonedEnded.push(resolve));
  }

  get #noneAbandoned(): boolean {
    return this.allSettled && this.#abandoned === 0;
  }

  /** Calls the listeners whose condition holds, after a count has changed. */
  notify(): void {
    if (this.#pending > 0) return;
    if (this.canClose) callAll(this.#onCanClose);
    if (!this.allSettled) return;
    callAll(this.#onAllSettled);
    if (this.#abandoned === 0) callAll(this.#onAbandonedEnded);
  }
}

function callAll(listeners: (() => void)[]): void {
  if (listeners.length > 0) for (const listener of listeners.splice(0)) listener();
}
