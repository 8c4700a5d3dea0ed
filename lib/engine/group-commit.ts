import { clearTimeout, setTimeout } from 'node:timers';
import { setTimeout as wait } from 'node:timers/promises';
import { Fifo } from '../list/fifo.js';
import type { BackgroundTasksEngine, EngineEntry } from './engine.js';
import type { Flush } from './flush.js';

/** The size of a call, in entries and in characters of arguments: so many take milliseconds, and more at once are no quicker. */
const [MOST_ENTRIES, MOST_CHARACTERS] = [200, 1_000_000];
/** Milliseconds for which a call keeps the next one waiting, unless a deadline comes first: it may wait for a server that is away. */
const PATIENCE = 1_000;
/** Milliseconds before entries are offered again: as long at first, and at most. */
const [FIRST_PAUSE, LONGEST_PAUSE] = [50, 1_000];

/** A part of a flush that goes in one call. */
interface Piece {
  readonly flush: Flush;
  readonly entries: readonly EngineEntry[];
}

/**
 * Hands flushes to the engine, those of concurrent requests in one call: while a call is under way, the next one gathers. A flush has one piece
 * under way at a time, so that its order is kept, and a long one takes turns with the others.
 *
 * What goes together may fail for the fault of one: after an error, each flush goes on by itself, until the engine has taken a piece of it.
 */
export class GroupCommit {
  readonly #engine: BackgroundTasksEngine;
  readonly #waiting = new Fifo<Flush>();
  #underWay: Promise<boolean> | undefined;

  constructor(engine: BackgroundTasksEngine) {
    this.#engine = engine;
  }

  /** Goes on with a flush until it is over: the same entries again and again, if need be. */
  send(flush: Flush): void {
    this.#waiting.push(flush);
    if (!this.#underWay) this.#next();
  }

  #next(): void {
    this.#underWay = undefined;
    const pieces = this.#gather();
    if (pieces.length === 0) return;
    const goOn = (): void => {
      // If it was out of patience with this call, there may be none under way, and nobody to go on with what is left of it.
      if (!this.#underWay || this.#underWay === call) this.#next();
    };
    // A shutdown gives up others, too, before that.
    const call = (this.#underWay = this.#call(pieces, () => queueMicrotask(goOn)));
    const timer = setTimeout(goOn, PATIENCE);
    void call.then((isTaken) => {
      clearTimeout(timer);
      const pause = pieces.length > 1 ? 0 : FIRST_PAUSE;
      for (const { flush } of pieces) {
        if (flush.isOver) continue;
        if (isTaken) this.#waiting.push(flush);
        else void this.#sendApart(flush, pause);
      }
      goOn();
    });
  }

  #gather(): Piece[] {
    const pieces: Piece[] = [];
    let [entries, characters] = [MOST_ENTRIES, MOST_CHARACTERS];
    while (entries > 0 && characters > 0 && !this.#waiting.isEmpty) {
      const flush = this.#waiting.shift()!;
      // Given up as it waited.
      if (flush.isOver) continue;
      const piece = { flush, entries: flush.next(entries, characters) };
      pieces.push(piece);
      entries -= piece.entries.length;
      for (const { args } of piece.entries) characters -= args.length;
    }
    return pieces;
  }

  async #sendApart(flush: Flush, firstPause: number): Promise<void> {
    for (let pause = firstPause; ; pause = Math.min(pause * 2 || FIRST_PAUSE, LONGEST_PAUSE)) {
      // The deadline of the flush keeps the process.
      if (pause > 0) await wait(pause, undefined, { ref: false });
      if (flush.isOver) return;
      if (await this.#call([{ flush, entries: flush.next(MOST_ENTRIES, MOST_CHARACTERS) }])) break;
    }
    if (!flush.isOver) this.send(flush);
  }

  /** Whether the engine has taken the entries. Nothing of them is sent any more when one of the flushes is given up. */
  async #call(pieces: readonly Piece[], whenGivenUp?: () => void): Promise<boolean> {
    const call = new AbortController();
    for (const { flush } of pieces) {
      flush.whenGivenUp = () => {
        call.abort();
        whenGivenUp?.();
      };
    }
    try {
      await this.#engine.enqueue(
        pieces.flatMap(({ entries }) => entries),
        call.signal,
      );
    } catch (error) {
      for (const { flush } of pieces) flush.refusal = error;
      return false;
    }
    for (const { flush, entries } of pieces) flush.acknowledge(entries.length);
    return true;
  }
}
