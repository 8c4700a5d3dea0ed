import { setImmediate } from 'node:timers/promises';

/** Milliseconds of synchronous work after which the event loop gets its turn. */
export const TIME_SLICE = 5;

/** Calls a function with each item, and lets the event loop live meanwhile. */
export async function inSlices<Item>(items: Iterable<Item>, func: (item: Item) => void): Promise<void> {
  let sliceEnd = performance.now() + TIME_SLICE;
  for (const item of items) {
    if (performance.now() > sliceEnd) {
      await setImmediate();
      sliceEnd = performance.now() + TIME_SLICE;
    }
    func(item);
  }
}
