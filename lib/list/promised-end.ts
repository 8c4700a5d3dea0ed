/** The end of a list, as a platform is promised it that would freeze the process otherwise. */
export class PromisedEnd {
  /** The tasks that are not over. */
  #open = 0;
  #keep!: () => void;

  /** What `waitUntil` throws is thrown on, for the request to fail; what it rejects with is told. */
  constructor(waitUntil: (end: Promise<void>) => unknown, rejected: (error: unknown) => void) {
    Promise.resolve(waitUntil(new Promise((resolve) => (this.#keep = resolve)))).catch(rejected);
  }

  taskAdded(): void {
    this.#open += 1;
  }

  taskOver(): void {
    this.#open -= 1;
  }

  /** Fulfils the promise, unless tasks are left. Returns whether it did. */
  keep(): boolean {
    if (this.#open > 0) return false;
    this.#keep();
    return true;
  }
}
