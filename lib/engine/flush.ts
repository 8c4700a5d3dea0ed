import type { Queued } from '../list/fifo.js';
import { messageOf } from '../task/describe-error.js';
import type { EngineEntry } from './engine.js';
import { BackgroundTasksEngineError } from './errors.js';
import type { DeliverableTask } from './named-task.js';

/** Tasks that a list hands over to the engine together: in order, and in as many pieces as it takes. */
export class Flush implements Queued<Flush> {
  behind: Flush | undefined;
  /** Resolves once the engine has all of them; rejects with a `BackgroundTasksEngineError` when they are given up. */
  readonly end: Promise<void>;
  /** What the engine said last, if it said anything. */
  refusal: unknown;
  readonly #tasks: readonly DeliverableTask[];
  /** Called when the tasks are given up. */
  whenGivenUp: (() => void) | undefined;
  #acknowledged = 0;
  #isGivenUp = false;
  #resolve!: () => void;
  #reject!: (error: Error) => void;

  constructor(tasks: readonly DeliverableTask[]) {
    this.#tasks = tasks;
    this.end = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get isOver(): boolean {
    return this.#isGivenUp || this.#acknowledged === this.#tasks.length;
  }

  /** The entries whose turn is next: one at least, then as many as there is room for. */
  next(entries: number, characters: number): EngineEntry[] {
    const piece: EngineEntry[] = [];
    for (const { entry } of this.#tasks.slice(this.#acknowledged, this.#acknowledged + entries)) {
      characters -= entry.args.length;
      if (characters < 0 && piece.length > 0) break;
      piece.push(entry);
    }
    return piece;
  }

  /** Takes note that the engine has the next so many. */
  acknowledge(count: number): void {
    if (this.#isGivenUp) return;
    for (const task of this.#tasks.slice(this.#acknowledged, this.#acknowledged + count)) task.delivered();
    this.#acknowledged += count;
    if (this.isOver) this.#resolve();
  }

  /** Whether the engine has what it has not acknowledged is not known. */
  giveUp(what: string): void {
    this.#isGivenUp = true;
    this.whenGivenUp?.();
    const names = this.#tasks.slice(this.#acknowledged).map(({ name }) => name);
    const said = this.refusal === undefined ? 'it did not answer' : `it said last: ${messageOf(this.refusal)}`;
    const rest = this.#acknowledged > 0 ? `; it has the other ${this.#acknowledged}` : '';
    this.#reject(new BackgroundTasksEngineError(names, `${what}; ${said}${rest}`, this.refusal));
  }
}
