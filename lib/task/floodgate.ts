import { setTimeout } from 'node:timers';

/** How many lines of one kind are written in a second. */
const MOST_LINES = 5;

/** Lets the first few lines of each kind pass in a second, and says at its end how many more there were. */
export class Floodgate {
  readonly #counts = new Map<string, number>();
  readonly #sum: (kind: string, more: number) => void;

  constructor(sum: (kind: string, more: number) => void) {
    this.#sum = sum;
  }

  pass(kind: string, write: () => void): void {
    const count = this.#counts.get(kind) ?? 0;
    if (count === 0) setTimeout(() => this.#endSecond(kind), 1_000).unref();
    this.#counts.set(kind, count + 1);
    if (count < MOST_LINES) write();
  }

  #endSecond(kind: string): void {
    const more = (this.#counts.get(kind) ?? 0) - MOST_LINES;
    this.#counts.delete(kind);
    if (more > 0) this.#sum(kind, more);
  }
}
