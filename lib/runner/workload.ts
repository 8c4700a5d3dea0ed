/** Counts what is at work in an application, and tells those that wait for its end. */
export class Workload {
  /** The handlers at work, with tasks or without: each may still add one. */
  handlers = 0;
  /** The tasks that have not started. */
  pending = 0;
  /** The tasks that run. */
  active = 0;
  /** The failures that `onError` is being told. */
  reporting = 0;
  /** The tasks that await the shutdown, so that this must not wait for them. */
  closing = 0;
  /** The tasks that were given up at shutdown, and whose functions have not ended. */
  lingering = 0;
  readonly #idleListeners: (() => void)[] = [];
  readonly #quietListeners: (() => void)[] = [];
  readonly #goneListeners: (() => void)[] = [];

  /** Whether there is nothing left of any task. */
  get isIdle(): boolean {
    return this.pending === 0 && this.active === 0 && this.reporting === 0;
  }

  /** Whether, besides, no handler may add one, so that a shutdown can go on. */
  get isQuiet(): boolean {
    return this.pending === 0 && this.active <= this.closing && this.reporting === 0 && this.handlers === 0;
  }

  onIdle(): Promise<void> {
    return this.isIdle ? Promise.resolve() : new Promise((resolve) => this.#idleListeners.push(resolve));
  }

  onQuiet(): Promise<void> {
    return this.isQuiet ? Promise.resolve() : new Promise((resolve) => this.#quietListeners.push(resolve));
  }

  /** Resolves when what was given up is over, too. */
  onGone(): Promise<void> {
    return this.#isGone ? Promise.resolve() : new Promise((resolve) => this.#goneListeners.push(resolve));
  }

  get #isGone(): boolean {
    return this.isIdle && this.lingering === 0;
  }

  /** To be called when a count went down. */
  decreased(): void {
    if (this.pending > 0) return;
    if (this.isQuiet) callAll(this.#quietListeners);
    if (!this.isIdle) return;
    callAll(this.#idleListeners);
    if (this.lingering === 0) callAll(this.#goneListeners);
  }
}

function callAll(listeners: (() => void)[]): void {
  if (listeners.length > 0) for (const listener of listeners.splice(0)) listener();
}
