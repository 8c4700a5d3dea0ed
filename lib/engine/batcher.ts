import { clearTimeout, setTimeout } from 'node:timers';
import { setTimeout as wait } from 'node:timers/promises';
import { Queue, type Queued } from '../list/queue.js';
import { messageOf, withoutArguments } from '../task/describe.js';
import { BackgroundTasksEngineError } from '../task/errors.js';
import type { Task } from '../task/task.js';
import type { BackgroundTasksEngine, EngineEntry } from './engine.js';
import { namedCallOf } from './named-call.js';

/** The size of a call, in entries and in characters of arguments: it takes milliseconds, and larger calls are no quicker. */
const [MOST_ENTRIES, MOST_CHARACTERS] = [200, 1_000_000];
/** Time for which a call keeps the next one waiting, in ms, unless a deadline comes first: it may wait for a server that is away. */
const SLOW_CALL_MS = 1_000;
/** The pauses before entries are offered again, in ms. */
const [FIRST_PAUSE_MS, LONGEST_PAUSE_MS] = [50, 1_000];

/** The tasks of one flush: they go in order, and in as many pieces as it takes. */
export class Batch implements Queued<Batch> {
  next: Batch | undefined;
  /** Resolves once the engine has all tasks; rejects with a `BackgroundTasksEngineError` when they are aborted. */
  readonly end: Promise<void>;
  /** The last error of the engine. */
  refusal: unknown;
  onAbort: (() => void) | undefined;
  readonly #tasks: readonly Task[];
  #acknowledged = 0;
  #isAborted = false;
  #resolve!: () => void;
  #reject!: (error: Error) => void;

  constructor(tasks: readonly Task[]) {
    this.#tasks = tasks;
    this.end = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get isOver(): boolean {
    return this.#isAborted || this.#acknowledged === this.#tasks.length;
  }

  /** The entries whose turn is next: one at least, then as many as there is room for. */
  nextEntries(most: number, characters: number): EngineEntry[] {
    const entries: EngineEntry[] = [];
    for (const task of this.#tasks.slice(this.#acknowledged, this.#acknowledged + most)) {
      // Released only once it is acknowledged.
      const entry = namedCallOf(task)!.entry!;
      characters -= entry.args.length;
      if (characters < 0 && entries.length > 0) break;
      entries.push(entry);
    }
    return entries;
  }

  /** Takes note that the engine has the next tasks. */
  acknowledge(count: number): void {
    if (this.#isAborted) return;
    for (const task of this.#tasks.slice(this.#acknowledged, this.#acknowledged + count)) {
      task.change('queue');
      task.release();
    }
    this.#acknowledged += count;
    if (this.isOver) this.#resolve();
  }

  /** Stops sending. Whether the engine has tasks that it has not acknowledged is not known. */
  abort(what: string): void {
    this.#isAborted = true;
    this.onAbort?.();
    const names = this.#tasks.slice(this.#acknowledged).map(({ name }) => name);
    const said = this.refusal === undefined ? 'it did not answer' : `it said last: ${messageOf(this.refusal)}`;
    const rest = this.#acknowledged > 0 ? `; it has the other ${this.#acknowledged}` : '';
    this.#reject(new BackgroundTasksEngineError(names, `${what}; ${said}${rest}`, this.refusal));
  }
}

/** The part of a batch that goes in one call. */
interface Piece {
  readonly batch: Batch;
  readonly entries: readonly EngineEntry[];
}

/**
 * Group commit: sends the batches of concurrent requests in one call. While a call is in flight, further batches are collected for the next
 * one. A batch has one piece in flight at a time, so that its order is kept, and a long one takes turns with the others.
 *
 * One batch may make a whole call fail. After an error, each batch goes on by itself, until the engine has taken a piece of it.
 */
export class Batcher {
  readonly #engine: BackgroundTasksEngine;
  readonly #waiting = new Queue<Batch>();
  #inFlight: Promise<boolean> | undefined;

  constructor(engine: BackgroundTasksEngine) {
    this.#engine = engine;
  }

  /** Sends a batch until it is over, with the same entries again and again if need be. */
  send(batch: Batch): void {
    this.#waiting.push(batch);
    if (!this.#inFlight) this.#callNext();
  }

  #callNext(): void {
    this.#inFlight = undefined;
    const pieces = this.#collect();
    if (pieces.length === 0) return;
    const goOn = (): void => {
      // After a slow call, there may be none in flight, and nobody to go on with the rest.
      if (!this.#inFlight || this.#inFlight === call) this.#callNext();
    };
    // In a microtask: a shutdown aborts further batches before that.
    const call = (this.#inFlight = this.#call(pieces, () => queueMicrotask(goOn)));
    const timer = setTimeout(goOn, SLOW_CALL_MS);
    void call.then((isTaken) => {
      clearTimeout(timer);
      const pause = pieces.length > 1 ? 0 : FIRST_PAUSE_MS;
      for (const { batch } of pieces) {
        if (batch.isOver) continue;
        if (isTaken) this.#waiting.push(batch);
        else void this.#sendAlone(batch, pause);
      }
      goOn();
    });
  }

  #collect(): Piece[] {
    const pieces: Piece[] = [];
    let [entries, characters] = [MOST_ENTRIES, MOST_CHARACTERS];
    while (entries > 0 && characters > 0 && !this.#waiting.isEmpty) {
      const batch = this.#waiting.shift()!;
      // Aborted while it waited.
      if (batch.isOver) continue;
      const piece = { batch, entries: batch.nextEntries(entries, characters) };
      pieces.push(piece);
      entries -= piece.entries.length;
      for (const { args } of piece.entries) characters -= args.length;
    }
    return pieces;
  }

  async #sendAlone(batch: Batch, firstPause: number): Promise<void> {
    for (let pause = firstPause; ; pause = Math.min(pause * 2 || FIRST_PAUSE_MS, LONGEST_PAUSE_MS)) {
      // The timer of the flush's deadline keeps the process alive.
      if (pause > 0) await wait(pause, undefined, { ref: false });
      if (batch.isOver) return;
      if (await this.#call([{ batch, entries: batch.nextEntries(MOST_ENTRIES, MOST_CHARACTERS) }])) break;
    }
    if (!batch.isOver) this.send(batch);
  }

  /** Whether the engine has taken the entries. When one of the batches is aborted, nothing more of the call is sent. */
  async #call(pieces: readonly Piece[], onAbort?: () => void): Promise<boolean> {
    const call = new AbortController();
    for (const { batch } of pieces) {
      batch.onAbort = () => {
        call.abort();
        onAbort?.();
      };
    }
    try {
      await this.#engine.enqueue(
        pieces.flatMap(({ entries }) => entries),
        call.signal,
      );
    } catch (error) {
      for (const { batch } of pieces) batch.refusal = withoutArguments(error);
      return false;
    }
    for (const { batch, entries } of pieces) batch.acknowledge(entries.length);
    return true;
  }
}
