import { clearTimeout, setTimeout } from 'node:timers';
import { setTimeout as wait } from 'node:timers/promises';
import { Queue, type Queued } from '../list/queue.js';
import { messageOf, withoutArguments } from '../task/describe.js';
import { BackgroundTasksEngineError } from '../task/errors.js';
import type { Task } from '../task/task.js';
import type { BackgroundTasksEngine, EngineEntry } from './engine.js';
import { namedCallOf } from './named-call.js';

/**
 * The maximum size of a call, in entries and in characters of arguments. Such a call takes milliseconds, and larger calls are not faster
 * per entry.
 */
const [MAX_ENTRIES, MAX_CHARACTERS] = [200, 1_000_000];
/** Time after which a call no longer delays the next one, in ms. It may be waiting for a server that is down. */
const SLOW_CALL_MS = 1_000;
/** The first and the longest pause before entries are sent again. */
const [FIRST_PAUSE_MS, MAX_PAUSE_MS] = [50, 1_000];

/** The tasks of one flush. They are sent in order, in as many pieces as necessary. */
export class Batch implements Queued<Batch> {
  next: Batch | undefined;
  /** Resolves once the engine has all tasks. Rejects with a `BackgroundTasksEngineError` if the batch is aborted. */
  readonly end: Promise<void>;
  /** The last error of the engine. */
  lastError: unknown;
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

  /** The next entries to send: at least one, and as many more as there is room for. */
  nextEntries(maxEntries: number, characters: number): EngineEntry[] {
    const entries: EngineEntry[] = [];
    for (const task of this.#tasks.slice(this.#acknowledged, this.#acknowledged + maxEntries)) {
      // A task keeps its entry until it is acknowledged.
      const entry = namedCallOf(task)!.entry!;
      characters -= entry.args.length;
      if (characters < 0 && entries.length > 0) break;
      entries.push(entry);
    }
    return entries;
  }

  /** Called when the engine has accepted the next tasks. */
  acknowledge(count: number): void {
    if (this.#isAborted) return;
    for (const task of this.#tasks.slice(this.#acknowledged, this.#acknowledged + count)) {
      task.queued();
      task.release();
    }
    this.#acknowledged += count;
    if (this.isOver) this.#resolve();
  }

  /** Stops sending. The engine may have tasks that it has not acknowledged. */
  abort(predicate: string): void {
    this.#isAborted = true;
    this.onAbort?.();
    const names = this.#tasks.slice(this.#acknowledged).map(({ name }) => name);
    const answer = this.lastError === undefined ? 'no answer' : `last error: ${messageOf(this.lastError)}`;
    const count = this.#acknowledged;
    const others = count > 0 ? `; ${count} ${count === 1 ? 'other was' : 'others were'} accepted` : '';
    this.#reject(new BackgroundTasksEngineError(names, `${predicate}; ${answer}${others}`, this.lastError));
  }
}

/** The part of a batch that is sent in one call. */
interface Piece {
  readonly batch: Batch;
  readonly entries: readonly EngineEntry[];
}

/**
 * Group commit: sends the batches of concurrent requests in one call. While a call is in flight, further batches are collected for the next
 * one. A batch has one piece in flight at a time, which keeps its order, and a long batch takes turns with the others.
 *
 * A single batch may make a whole call fail. After an error, each batch is sent alone, until the engine has accepted a piece of it.
 */
export class Batcher {
  readonly #engine: BackgroundTasksEngine;
  readonly #waiting = new Queue<Batch>();
  #inFlight: Promise<boolean> | undefined;

  constructor(engine: BackgroundTasksEngine) {
    this.#engine = engine;
  }

  /** Sends a batch, with retries, until it is accepted or aborted. */
  enqueue(batch: Batch): void {
    this.#waiting.push(batch);
    if (!this.#inFlight) this.#callNext();
  }

  #callNext(): void {
    this.#inFlight = undefined;
    const pieces = this.#collect();
    if (pieces.length === 0) return;
    const callNext = (): void => {
      // After a slow call, there may be no other call in flight whose end would start the next one.
      if (!this.#inFlight || this.#inFlight === call) this.#callNext();
    };
    // In a microtask, so that a shutdown can abort all batches first.
    const call = (this.#inFlight = this.#call(pieces, () => queueMicrotask(callNext)));
    const timer = setTimeout(callNext, SLOW_CALL_MS);
    void call.then((isTaken) => {
      clearTimeout(timer);
      const pause = pieces.length > 1 ? 0 : FIRST_PAUSE_MS;
      for (const { batch } of pieces) {
        if (batch.isOver) continue;
        if (isTaken) this.#waiting.push(batch);
        else void this.#sendAlone(batch, pause);
      }
      callNext();
    });
  }

  #collect(): Piece[] {
    const pieces: Piece[] = [];
    let [entries, characters] = [MAX_ENTRIES, MAX_CHARACTERS];
    while (entries > 0 && characters > 0 && !this.#waiting.isEmpty) {
      const batch = this.#waiting.shift()!;
      // It was aborted while it waited.
      if (batch.isOver) continue;
      const piece = { batch, entries: batch.nextEntries(entries, characters) };
      pieces.push(piece);
      entries -= piece.entries.length;
      for (const { args } of piece.entries) characters -= args.length;
    }
    return pieces;
  }

  async #sendAlone(batch: Batch, firstPause: number): Promise<void> {
    for (let pause = firstPause; ; pause = Math.min(pause * 2 || FIRST_PAUSE_MS, MAX_PAUSE_MS)) {
      // The timer of the flush's deadline keeps the process alive.
      if (pause > 0) await wait(pause, undefined, { ref: false });
      if (batch.isOver) return;
      if (await this.#call([{ batch, entries: batch.nextEntries(MAX_ENTRIES, MAX_CHARACTERS) }])) break;
    }
    if (!batch.isOver) this.enqueue(batch);
  }

  /** Calls the engine. Resolves with true if it has accepted the entries. If one of the batches is aborted, the whole call is. */
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
      for (const { batch } of pieces) batch.lastError = withoutArguments(error);
      return false;
    }
    for (const { batch, entries } of pieces) batch.acknowledge(entries.length);
    return true;
  }
}
