/** What a queue holds. Each item knows the one behind it, so that queues allocate nothing; it is in one queue at a time. */
export interface Queued<Item> {
  behind: Item | undefined;
}

/** A first-in first-out queue. */
export class Fifo<Item extends Queued<Item>> {
  #first: Item | undefined;
  #last: Item | undefined;

  get isEmpty(): boolean {
    return this.#first === undefined;
  }

  push(item: Item): void {
    if (this.#last) this.#last.behind = item;
    else this.#first = item;
    this.#last = item;
  }

  shift(): Item | undefined {
    const item = this.#first;
    if (!item) return undefined;
    this.#first = item.behind;
    if (!this.#first) this.#last = undefined;
    // Lets go of what comes after: the item may live on.
    item.behind = undefined;
    return item;
  }

  /** Takes every item out, however many there are, at once. */
  takeAll(): Fifo<Item> {
    const all = new Fifo<Item>();
    all.#first = this.#first;
    all.#last = this.#last;
    this.#first = this.#last = undefined;
    return all;
  }

  *[Symbol.iterator](): Iterator<Item> {
    for (let item = this.#first; item; item = item.behind) yield item;
  }

  /** Takes every item out. */
  clear(): Item[] {
    const items: Item[] = [];
    for (let item = this.shift(); item; item = this.shift()) items.push(item);
    return items;
  }

  /** Takes the items out that the predicate holds for. */
  take<Taken extends Item>(predicate: (item: Item) => item is Taken): Taken[] {
    const taken: Taken[] = [];
    for (const item of this.clear()) {
      if (predicate(item)) taken.push(item);
      else this.push(item);
    }
    return taken;
  }

  toArray(): Item[] {
    const items: Item[] = [];
    for (let item = this.#first; item; item = item.behind) items.push(item);
    return items;
  }
}
