import { clearTimeout, setTimeout } from 'node:timers';
import { setImmediate } from 'node:timers/promises';
import type { BeforeApplicationShutdown, OnApplicationShutdown, OnModuleDestroy } from '@nestjs/common';
import type { TaskHost } from '../engine/host.js';
import { awaitedByTask } from '../task/task.js';
import type { Execution } from './execution.js';

/** Milliseconds, after the deadline, for tasks to heed their signals, for `onError`, and for an engine to take back what runs, and to let go. */
const LAST_WORDS = 1_000;

/**
 * Waits, while the application closes, for requests in flight and for tasks. Each hook drains, and all under one deadline: while the server
 * is open, requests come in and add tasks, and Nest 11 runs every hook again when `close()` is called twice.
 */
export class Shutdown implements OnModuleDestroy, BeforeApplicationShutdown, OnApplicationShutdown {
  #deadline: number | undefined;
  readonly #giveBack = new AbortController();
  #lastWords: Promise<unknown> | undefined;

  constructor(
    private readonly runner: Execution,
    private readonly taskHost: TaskHost,
  ) {}

  onModuleDestroy(): Promise<void> {
    return this.#drain();
  }

  beforeApplicationShutdown(): Promise<void> {
    return this.#drain();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#drain();
    const closed = this.runner.close('the application has shut down');
    await atMost(
      LAST_WORDS,
      Promise.all([closed, this.taskHost.close()]).then(() => undefined),
    );
  }

  async #drain(): Promise<void> {
    const { shutdownTimeout } = this.runner.options;
    this.#deadline ??= this.#begin(shutdownTimeout);
    const worker = this.taskHost.drain(this.#giveBack.signal);
    const left = Math.max(0, this.#deadline - performance.now());
    if (await atMost(left, this.#quiet(worker))) return;
    const reason = `the application shuts down, and its shutdownTimeout of ${shutdownTimeout} ms is over`;
    const closed = this.runner.close(reason);
    this.#giveBack.abort(reason);
    await (this.#lastWords ??= atMost(
      LAST_WORDS,
      Promise.all([closed, worker, this.runner.work.onGone()]).then(() => undefined),
    ));
  }

  /** Returns when the deadline is. */
  #begin(shutdownTimeout: number): number {
    this.runner.beginToClose();
    const tasks = this.runner.work.active + this.runner.work.pending;
    if (awaitedByTask()) {
      this.runner.work.closing = 1;
      this.runner.reporter.closedByTask();
    }
    if (tasks > this.runner.work.closing) this.runner.reporter.waiting(tasks, shutdownTimeout);
    return performance.now() + shutdownTimeout;
  }

  async #quiet(worker: Promise<void>): Promise<void> {
    await worker;
    // Without a turn of the event loop where there is nothing to wait for: whoever does not await `app.close()`, as for a hot reload, may listen
    // on the same port right after.
    while (!this.runner.work.isQuiet) {
      await this.runner.work.onQuiet();
      // What a request does right after its handler, such as an exception filter that adds a task, has had its turn after this.
      await setImmediate();
    }
  }
}

/** Whether the promise is fulfilled within so many milliseconds. */
async function atMost(milliseconds: number, promise: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, milliseconds, false);
  });
  const inTime = await Promise.race([promise.then(() => true), late]);
  clearTimeout(timer);
  return inTime;
}
