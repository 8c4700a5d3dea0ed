import { setImmediate } from 'node:timers';
import type { Runner } from '../runner/runner.js';
import { RefusedError } from '../task/errors.js';
import { graphqlContext, requestOfOperation, startsSubscription } from './context.js';
import type { Lifetime } from './lifetime.js';
import type { CurrentRequest } from './lists.js';
import { HandlerRun } from './run-handler.js';

/** Runs GraphQL resolvers, including their guards and filters, as the interceptor runs a handler. */
export class Resolvers {
  /** True once every resolver is called through `around`. */
  areWrapped = false;
  readonly #runner: Runner;
  readonly #current: CurrentRequest;
  readonly #open: (request: object) => Lifetime | undefined;
  /** The runs of open subscriptions. */
  readonly #subscriptions = new Set<HandlerRun>();

  constructor(runner: Runner, current: CurrentRequest, open: (request: object) => Lifetime | undefined) {
    this.#runner = runner;
    this.#current = current;
    this.#open = open;
    // GraphQL ends its subscriptions late in the shutdown, which would otherwise wait for them.
    runner.closing.addEventListener('abort', () => {
      for (const run of this.#subscriptions) run.settle();
    });
  }

  async around(args: readonly unknown[], resolve: () => Promise<unknown>): Promise<unknown> {
    const lifetime = this.#open(requestOfOperation(graphqlContext(args)));
    if (!lifetime) return resolve();
    const run = new HandlerRun(lifetime, { waitsForEngine: true });
    try {
      const result = await this.#current.runInRequest(lifetime, resolve);
      if (startsSubscription(args) && isAsyncIterable(result)) return this.#subscribed(run, result);
      // A filter returns the error for GraphQL to report.
      const failure = result instanceof Error ? { error: result } : undefined;
      const acknowledged = run.acknowledged(failure ? 'failure' : 'success');
      if (acknowledged) await acknowledged;
      run.settle(failure);
      return result;
    } catch (error) {
      await run.acknowledged('failure');
      run.settle({ error });
      // GraphQL sends the message of an error to the client.
      throw error instanceof RefusedError ? error.toResponse() : error;
    }
  }

  #subscribed(run: HandlerRun, events: AsyncIterable<unknown>): AsyncIterable<unknown> {
    // The shutdown does not wait for a subscription that begins while the application closes, either.
    if (this.#runner.closing.aborted) run.settle();
    else this.#subscriptions.add(run);
    return onceEnded(
      events,
      (step) => this.#current.runInRequest(run.lifetime, step),
      (failure) => {
        this.#subscriptions.delete(run);
        run.settle(failure);
      },
    );
  }
}

function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

/** Wraps events: each step runs in the request, and the listener is called at their end. */
function onceEnded(
  events: AsyncIterable<unknown>,
  runInRequest: RunInRequest,
  ended: (failure?: { error: unknown }) => void,
): AsyncIterable<unknown> {
  const iterator = events[Symbol.asyncIterator]();
  const step = async (advance: () => Promise<IteratorResult<unknown>> | undefined): Promise<IteratorResult<unknown>> => {
    try {
      const result = (await runInRequest(advance)) ?? { done: true, value: undefined };
      if (result.done) ended();
      return result;
    } catch (error) {
      ended({ error });
      throw error;
    }
  };
  const watched: AsyncIterableIterator<unknown> = {
    next: () => step(() => iterator.next()),
    return: () => {
      // A generator that waits for its next event does not answer before that.
      setImmediate(ended);
      return step(() => iterator.return?.());
    },
    throw: (error: unknown) => step(() => iterator.throw?.(error)),
    [Symbol.asyncIterator]: () => watched,
  };
  return watched;
}

type RunInRequest = <Result>(func: () => Result) => Result;
