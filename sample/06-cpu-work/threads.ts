import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { currentTask } from 'nestjs-background-tasks';
import { Piscina } from 'piscina';

/** Threads for computations, so that the event loop stays free for requests. */
@Injectable()
export class Threads implements OnModuleDestroy {
  readonly #pool = new Piscina<number, number>({ filename: new URL('count-primes.js', import.meta.url).href, maxThreads: 2 });

  async countPrimes(below: number): Promise<number> {
    // If the task is aborted, at its timeout or at shutdown, the computation is stopped together with its thread.
    const signal = currentTask()?.signal;
    return this.#pool.run(below, signal && { signal });
  }

  // Nest calls this when the tasks have ended.
  onModuleDestroy(): Promise<void> {
    return this.#pool.close();
  }
}
