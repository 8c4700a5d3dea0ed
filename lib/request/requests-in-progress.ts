import type { ServerResponse } from 'node:http';
import type { Execution } from '../runner/execution.js';
import { RequestTasks } from './request-tasks.js';

/**
 * The requests that the application has begun to serve. The shutdown waits for each, from before its first middleware, until its handler has
 * ended: its body may still be arriving, or its guard take its time. Where no handler is reached, it waits until the answer has begun, which
 * may last as long as its client likes.
 */
export class RequestsInProgress {
  readonly #runner: Execution;
  /** Those that have not reached a handler. */
  readonly #unreached = new Map<RequestTasks, ServerResponse>();

  constructor(runner: Execution) {
    this.#runner = runner;
    runner.closing.addEventListener('abort', () => {
      for (const [tasks, response] of this.#unreached) tasks.awaitHeadOnly(response);
    });
  }

  begin(request: object, response: ServerResponse): void {
    const tasks = RequestTasks.of(request, this.#runner);
    this.#unreached.set(tasks, response);
    tasks.begin(response, this.#unreached);
    if (this.#runner.closing.aborted) tasks.awaitHeadOnly(response);
  }
}
