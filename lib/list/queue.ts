/** An item of a queue. Items link to each other, so that queues allocate nothing. An item is in one queue at a time. */
export interface Queued<Item> {
  next: Item | undefined;
}

/** A first-in first-out queue. */
export class Queue<Item extends Queued<Item>> {
  #first: Item | undefined;
  #last: Item | undefined;

  get isEmpty(): boolean {
    return this.#first === undefined;
  }

  push(item: Item): void {
    if (this.#last) this.#last.next = item;
    else this.#first = item;
    this.#last = item;
  }

  shift(): Item | undefined {
    const item = this.#first;
    if (!item) return undefined;
    this.#first = item.next;
    if (!this.#first) this.#last = undefined;
    // The item may outlive the queue, and must not retain the items after it.
    item.next = undefined;
    return item;
  }

  /** Takes out all items at once, in constant time. */
  takeAll(): Queue<Item> {
    const all = new Queue<Item>();
    all.#first = this.#first;
    all.#last = this.#last;
    this.#first = this.#last = undefined;
    return all;
  }

  /** Takes out the items that match. */
  take<Taken extends Item>(matches: (item: Item) => item is Taken): Taken[] {
    const taken: Taken[] = [];
    const all = this.takeAll();
    for (let item = all.shift(); item; item = all.shift()) {
      if (matches(item)) taken.push(item);
      else this.push(item);
    }
    return taken;
  }

  *[Symbol.iterator](): Iterator<Item> {
    for (let item = this.#first; item; item = item.next) yield item;
  }
}

/** A member of a linked set. An item is in one set at a time. */
export interface Linked<Item> {
  older: Item | undefined;
  newer: Item | undefined;
  isLinked: boolean;
}

/**
 * A set whose members link to their neighbours. A `Set` that every request enters and leaves reallocates its table again and again, and
 * retains finished requests over several minor garbage collections: adding a list with one task took twice as long.
 */
export class LinkedSet<Item extends Linked<Item>> {
  #oldest: Item | undefined;
  #newest: Item | undefined;

  add(item: Item): void {
    if (item.isLinked) return;
    item.isLinked = true;
    item.older = this.#newest;
    if (this.#newest) this.#newest.newer = item;
    else this.#oldest = item;
    this.#newest = item;
  }

  delete(item: Item): void {
    if (!item.isLinked) return;
    const { older, newer } = item;
    if (older) older.newer = newer;
    else this.#oldest = newer;
    if (newer) newer.older = older;
    else this.#newest = older;
    item.isLinked = false;
    item.older = item.newer = undefined;
  }

  *[Symbol.iterator](): Iterator<Item> {
    for (let item = this.#oldest; item; item = item.newer) yield item;
  }
}
