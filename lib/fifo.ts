/** A first-in first-out queue: O(1) at both ends, and it lets go of what it handed out. */
export class Fifo<T> {
  #items: (T | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#items.length - this.#head;
  }

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    if (this.#head === this.#items.length) return undefined;
    const item = this.#items[this.#head];
    this.#items[this.#head++] = undefined;
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    } else if (this.#head >= 1024 && this.#head * 2 >= this.#items.length) {
      // A queue that never runs empty would grow for ever.
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Takes the items out that the predicate holds for. */
  take(predicate: (item: T) => boolean): T[] {
    const taken: T[] = [];
    const left: T[] = [];
    for (const item of this.toArray()) (predicate(item) ? taken : left).push(item);
    this.#items = left;
    this.#head = 0;
    return taken;
  }

  toArray(): T[] {
    return this.#items.slice(this.#head) as T[];
  }
}
