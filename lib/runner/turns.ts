import { performance } from 'node:perf_hooks';
import { setImmediate } from 'node:timers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Queue, type Queued } from '../list/queue.js';
import { runOutside } from '../task/current-task.js';

/** Duration of synchronous work after which the event loop gets a turn, in ms. */
const TIME_SLICE_MS = 5;

/** Calls a function with each item, without blocking the event loop. */
export async function inSlices<Item>(items: Iterable<Item>, func: (item: Item) => void): Promise<void> {
  let sliceEnd = performance.now() + TIME_SLICE_MS;
  for (const item of items) {
    if (performance.now() > sliceEnd) {
      await nextTurn();
      sliceEnd = performance.now() + TIME_SLICE_MS;
    }
    func(item);
  }
}

/** Hands out turns, first come, first served, while there is room, and without blocking the event loop. */
export class Turns<Item extends Queued<Item>> {
  readonly #waiting = new Queue<Item>();
  readonly #hasRoom: () => boolean;
  readonly #take: (item: Item) => void;
  #wakeUp: NodeJS.Immediate | undefined;
  #isHandingOut = false;
  #sliceEnd = 0;

  constructor(hasRoom: () => boolean, take: (item: Item) => void) {
    this.#hasRoom = hasRoom;
    this.#take = take;
  }

  /** Requests a turn after the current event. Never during it, as a response may have work left. */
  request(item: Item): void {
    this.#waiting.push(item);
    if (!this.#wakeUp) this.#wakeUpLater();
  }

  /** Not in the context of the current request, which the tasks of other requests would retain. */
  #wakeUpLater(): void {
    this.#wakeUp = runOutside(() => setImmediate(this.#onWakeUp));
  }

  /** Ends the turn of an item, requests its next one if it needs one, and hands out the free room. */
  end(item: Item, again: boolean): void {
    if (again) this.#waiting.push(item);
    this.#handOut();
  }

  readonly #onWakeUp = (): void => {
    this.#wakeUp = undefined;
    this.#sliceEnd = performance.now() + TIME_SLICE_MS;
    this.#handOut(true);
  };

  /** Hands out at least one turn after a wake-up, even if the process was suspended meanwhile. */
  #handOut(wokenUp = false): void {
    if (this.#isHandingOut || this.#wakeUp) return;
    this.#isHandingOut = true;
    let mayTake = wokenUp;
    try {
      while (!this.#waiting.isEmpty && this.#hasRoom()) {
        if (!mayTake && performance.now() > this.#sliceEnd) {
          this.#wakeUpLater();
          break;
        }
        mayTake = false;
        this.#take(this.#waiting.shift()!);
      }
    } finally {
      this.#isHandingOut = false;
    }
  }
}
