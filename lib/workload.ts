/** Counts what is at work in an application, and tells who waits for the end of it. */
export class Workload {
  /** The handlers at work, with tasks or without: each may still add one. */
  handlers = 0;
  /** The tasks that have not started. */
  pending = 0;
  /** The tasks that run. */
  active = 0;
  /** The failures that `onError` is being told. */
  reporting = 0;
  readonly #idleListeners: (() => void)[] = [];
  readonly #quietListeners: (() => void)[] = [];

  /** Whether there is nothing left of any task. */
  get isIdle(): boolean {
    return this.pending === 0 && this.active === 0 && this.reporting === 0;
  }

  /** Whether, besides, no handler may add one. */
  get isQuiet(): boolean {
    return this.isIdle && this.handlers === 0;
  }

  onIdle(): Promise<void> {
    return this.isIdle ? Promise.resolve() : new Promise((resolve) => this.#idleListeners.push(resolve));
  }

  onQuiet(): Promise<void> {
    return this.isQuiet ? Promise.resolve() : new Promise((resolve) => this.#quietListeners.push(resolve));
  }

  /** To be called when a count went down. */
  decreased(): void {
    if (!this.isIdle) return;
    callAll(this.#idleListeners);
    if (this.handlers === 0) callAll(this.#quietListeners);
  }
}

function callAll(listeners: (() => void)[]): void {
  if (listeners.length > 0) for (const listener of listeners.splice(0)) listener();
}
