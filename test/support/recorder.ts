/** The events, in order, for a test to wait for. */
export class Recorder<T> {
  readonly all: T[] = [];
  readonly #waiting = new Set<() => void>();

  add(item: T): void {
    this.all.push(item);
    for (const check of this.#waiting) check();
  }

  /** Resolves with everything, once there is as much as that. */
  async atLeast(count: number): Promise<T[]> {
    await this.#until(() => this.all.length >= count);
    return this.all;
  }

  /** Resolves once all of these are there. */
  containing(...items: T[]): Promise<void> {
    return this.#until(() => items.every((item) => this.all.includes(item)));
  }

  #until(condition: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const check = (): void => {
        if (!condition()) return;
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
      check();
    });
  }
}
