import { performance } from 'node:perf_hooks';
import { setImmediate } from 'node:timers';
import { Fifo, type Queued } from '../list/fifo.js';
import { TIME_SLICE } from './slices.js';

/** Hands out turns, first come first served, while there is room, and without holding the event loop up. */
export class Turns<Item extends Queued<Item>> {
  readonly #waiting = new Fifo<Item>();
  readonly #hasRoom: () => boolean;
  readonly #take: (item: Item) => void;
  #wakeUp: NodeJS.Immediate | undefined;
  #handingOut = false;
  #sliceEnd = 0;

  constructor(hasRoom: () => boolean, take: (item: Item) => void) {
    this.#hasRoom = hasRoom;
    this.#take = take;
  }

  /** Asks for a turn after the current event: never at once, in the middle of what a response still has to do. */
  request(item: Item): void {
    this.#waiting.push(item);
    this.#wakeUp ??= setImmediate(this.#onWakeUp);
  }

  /** Ends the turn of an item, asks for its next one if it needs one, and passes the freed room on. */
  end(item: Item, again: boolean): void {
    if (again) this.#waiting.push(item);
    this.#handOut();
  }

  readonly #onWakeUp = (): void => {
    this.#wakeUp = undefined;
    this.#sliceEnd = performance.now() + TIME_SLICE;
    this.#handOut(true);
  };

  /** One turn at least after a wake-up, even if the process itself had to wait for its own turn meanwhile. */
  #handOut(wokenUp = false): void {
    if (this.#handingOut || this.#wakeUp) return;
    this.#handingOut = true;
    let mayTake = wokenUp;
    try {
      while (!this.#waiting.isEmpty && this.#hasRoom()) {
        if (!mayTake && performance.now() > this.#sliceEnd) {
          this.#wakeUp = setImmediate(this.#onWakeUp);
          break;
        }
        mayTake = false;
        this.#take(this.#waiting.shift()!);
      }
    } finally {
      this.#handingOut = false;
    }
  }
}
