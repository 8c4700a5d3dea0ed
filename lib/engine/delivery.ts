import { clearTimeout, setTimeout } from 'node:timers';
import type { BackgroundTasksEngine } from './engine.js';
import { Flush } from './flush.js';
import { GroupCommit } from './group-commit.js';
import type { DeliverableTask } from './named-task.js';

/** Has the engine take tasks within a time. */
export class Delivery {
  readonly #group: GroupCommit;
  readonly #timeout: number;
  readonly #underWay = new Set<Flush>();

  constructor(engine: BackgroundTasksEngine, timeout: number) {
    this.#group = new GroupCommit(engine);
    this.#timeout = timeout;
  }

  /** Rejects with a `BackgroundTasksEngineError` when the time is up, or when it is given up, and with what the option `carry` fails with. */
  async deliver(tasks: readonly DeliverableTask[]): Promise<void> {
    const flush = new Flush(tasks);
    this.#underWay.add(flush);
    const timer = setTimeout(() => flush.giveUp(`did not get to the engine within the flushTimeout of ${this.#timeout} ms`), this.#timeout);
    try {
      const carrying = tasks.map((task) => task.carrying).filter((carried) => carried !== undefined);
      if (carrying.length > 0) await Promise.race([Promise.all(carrying), flush.end]);
      this.#group.send(flush);
      await flush.end;
    } finally {
      clearTimeout(timer);
      this.#underWay.delete(flush);
    }
  }

  /** Stops whatever is under way. */
  giveUp(reason: string): void {
    for (const flush of this.#underWay) flush.giveUp(`did not get to the engine: ${reason}`);
  }
}
