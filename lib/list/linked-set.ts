/** What a linked set holds: in one set at a time. */
export interface Linked<Item> {
  older: Item | undefined;
  newer: Item | undefined;
  isLinked: boolean;
}

/**
 * A set whose members know their neighbours. What every request enters and leaves is not a `Set`: that replaces its table again and again, and
 * each old table keeps what it held then for V8, finished requests, through several collections of young garbage.
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

  /** Takes every item out, the oldest first. */
  clear(): Item[] {
    const items: Item[] = [];
    for (let item = this.#oldest; item; item = this.#oldest) {
      items.push(item);
      this.delete(item);
    }
    return items;
  }
}
