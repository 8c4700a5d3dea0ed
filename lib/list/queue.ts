/** An item of a queue. Each knows the next one, so that queues allocate nothing; an item is in one queue at a time. */
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
    // The item may live on: it lets go of those after it.
    item.next = undefined;
    return item;
  }

  /** Takes all items out at once, however many there are. */
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
