import type { Execution } from '../runner/execution.js';
import { RefusedError } from '../task/errors.js';
import { graphqlContext, isAsyncIterable, onceEnded, requestOfOperation, startsSubscription } from './graphql.js';
import type { HandledTasks } from './injected-tasks.js';

/** Does for the resolvers of GraphQL, their guards and filters included, what the interceptor does for a handler. */
export class Resolvers {
  readonly #runner: Execution;
  readonly #open: (request: object) => HandledTasks | undefined;
  /** What ends each of the subscriptions that are open. */
  readonly #subscriptions = new Set<() => void>();

  constructor(runner: Execution, open: (request: object) => HandledTasks | undefined) {
    this.#runner = runner;
    this.#open = open;
    // GraphQL ends its subscriptions late in the shutdown, which would wait for them.
    runner.closing.addEventListener('abort', () => {
      for (const settle of this.#subscriptions) settle();
    });
  }

  async around(args: readonly unknown[], resolve: () => Promise<unknown>): Promise<unknown> {
    const tasks = this.#open(requestOfOperation(graphqlContext(args)));
    if (!tasks) return resolve();
    let settled = false;
    const settle = (failure?: { error: unknown }): void => {
      if (settled) return;
      settled = true;
      this.#subscriptions.delete(settle);
      if (failure) tasks.fail(failure.error);
      tasks.handlerSettled();
    };
    tasks.handlerStarted();
    const before = tasks.unacknowledged;
    try {
      const result = await this.#runner.enter(tasks, resolve);
      if (startsSubscription(args) && isAsyncIterable(result)) {
        // One that begins while the application closes is not waited for either.
        if (this.#runner.closing.aborted) settle();
        else this.#subscriptions.add(settle);
        return onceEnded(result, (step) => this.#runner.enter(tasks, step), settle);
      }
      // A filter returns the error that GraphQL is to report.
      const failure = result instanceof Error ? { error: result } : undefined;
      const acknowledged = tasks.flushFirst(failure ? 'failure' : 'success', before);
      if (acknowledged) await (failure ? acknowledged.catch(() => undefined) : acknowledged);
      settle(failure);
      return result;
    } catch (error) {
      settle({ error });
      // The message of an error goes to the client.
      throw error instanceof RefusedError ? error.toResponse() : error;
    }
  }
}
