import { setImmediate } from 'node:timers/promises';
import { type BeforeApplicationShutdown, Injectable, type OnApplicationShutdown, type OnModuleDestroy } from '@nestjs/common';
import { BackgroundTasksRunner } from './background-tasks.runner.js';

/**
 * Waits, while the application closes, for requests in flight and for tasks. Each hook drains, and all under one deadline: while the server
 * is open, requests come in and add tasks, and Nest 11 runs every hook again when `close()` is called twice.
 */
@Injectable()
export class BackgroundTasksShutdown implements OnModuleDestroy, BeforeApplicationShutdown, OnApplicationShutdown {
  #deadline: number | undefined;

  constructor(private readonly runner: BackgroundTasksRunner) {}

  onModuleDestroy(): Promise<void> {
    return this.#drain();
  }

  beforeApplicationShutdown(): Promise<void> {
    return this.#drain();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#drain();
    this.runner.close('the application has shut down');
  }

  async #drain(): Promise<void> {
    const { shutdownTimeout } = this.runner.options;
    this.#deadline ??= performance.now() + shutdownTimeout;
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<'deadline'>((resolve) => {
      timer = setTimeout(resolve, Math.max(0, this.#deadline! - performance.now()), 'deadline');
    });
    const first = await Promise.race([this.#quiet(), deadline]);
    clearTimeout(timer);
    if (first === 'deadline') this.runner.close(`the application shuts down, and its shutdownTimeout of ${shutdownTimeout} ms is over`);
  }

  async #quiet(): Promise<void> {
    do {
      await this.runner.onQuiet();
      // What a request does right after its handler, such as an exception filter that adds a task, has had its turn after this.
      await setImmediate();
    } while (!this.runner.quiet);
  }
}
