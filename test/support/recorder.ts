/** What happened, in order, for a test to wait for. */
export class Recorder<T> {
  readonly all: T[] = [];
  readonly #waiting = new Set<() => void>();

  add(item: T): void {
    this.all.push(item);
    for (const check of this.#waiting) check();
  }

  /** Resolves with everything, once there is as much as that. */
  atLeast(count: number): Promise<T[]> {
    return new Promise((resolve) => {
      const check = (): void => {
        if (this.all.length < count) return;
        this.#waiting.delete(check);
        resolve(this.all);
      };
      this.#waiting.add(check);
      check();
    });
  }
}
