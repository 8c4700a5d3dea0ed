import { setTimeout } from 'node:timers/promises';
import type { BackgroundTasksEngine, EngineEntry } from './engine.js';
import { BackgroundTasksEngineError } from './errors.js';

/** Milliseconds before an entry is offered again: as long at first, and at most. */
const [FIRST_PAUSE, LONGEST_PAUSE] = [50, 1_000];

/** Hands entries to the engine: again and again, the same ones, until it has them or the time is up. */
export class Delivery {
  readonly #engine: BackgroundTasksEngine;
  readonly #timeout: number;
  readonly #underWay = new Set<AbortController>();

  constructor(engine: BackgroundTasksEngine, timeout: number) {
    this.#engine = engine;
    this.#timeout = timeout;
  }

  /** Rejects with a `BackgroundTasksEngineError` when the time is up, or when it is given up: whether the engine has them is not known then. */
  async deliver(entries: readonly EngineEntry[]): Promise<void> {
    const controller = new AbortController();
    const { signal } = controller;
    this.#underWay.add(controller);
    const timer = globalThis.setTimeout(
      () => controller.abort(`did not get to the engine within the flushTimeout of ${this.#timeout} ms`),
      this.#timeout,
    );
    const over = new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    const progress = { failure: undefined as unknown };
    try {
      // An engine may hang for good when its server does.
      await Promise.race([this.#offer(entries, signal, progress), over]);
    } catch {
      throw deliveryError(entries, String(signal.reason), progress.failure);
    } finally {
      clearTimeout(timer);
      this.#underWay.delete(controller);
    }
  }

  /** Stops whatever is under way. */
  giveUp(reason: string): void {
    for (const controller of this.#underWay) controller.abort(`did not get to the engine: ${reason}`);
  }

  async #offer(entries: readonly EngineEntry[], signal: AbortSignal, progress: { failure: unknown }): Promise<void> {
    for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
      try {
        return await this.#engine.enqueue(entries, signal);
      } catch (error) {
        progress.failure = error;
      }
      await setTimeout(pause, undefined, { signal });
    }
  }
}

function deliveryError(entries: readonly EngineEntry[], what: string, cause: unknown): BackgroundTasksEngineError {
  const names = entries.map(({ name }) => name);
  return new BackgroundTasksEngineError(
    names,
    `${what}; ${cause === undefined ? 'it did not answer' : `it said last: ${messageOf(cause)}`}`,
    cause,
  );
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  // Node's error for a host that refuses on all its addresses has a code, and no message.
  return error.message || String('code' in error ? error.code : error.name);
}
