import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { currentTask } from 'nestjs-background-tasks';
import { Piscina } from 'piscina';

/** Threads that compute, so that the one that answers requests does not. */
@Injectable()
export class Threads implements OnModuleDestroy {
  readonly #pool = new Piscina<number, number>({ filename: new URL('count-primes.js', import.meta.url).href, maxThreads: 2 });

  async countPrimes(below: number): Promise<number> {
    // A computation that is aborted, at its timeout or at shutdown, is stopped together with its thread.
    const signal = currentTask()?.signal;
    return this.#pool.run(below, signal && { signal });
  }

  // Comes when the tasks are over.
  onModuleDestroy(): Promise<void> {
    return this.#pool.close();
  }
}
