import { Observable, catchError, concat, concatMap, defer, from, ignoreElements, isObservable, map, of, throwError } from 'rxjs';
import type { Outcome } from '../list/task-list.js';
import { isStreaming } from '../nest-internals/handlers.js';
import type { Lifetime } from './lifetime.js';
import type { CurrentRequest } from './lists.js';

/** The options of running a handler. */
export interface HandlerOptions {
  readonly current: CurrentRequest;
  /** True if the answer waits for the engine. */
  readonly waitsForEngine: boolean;
  /** True if the shutdown does not wait for the handler. */
  readonly isEndless?: boolean;
  /** True if Nest subscribes to an Observable that the handler returns. */
  readonly subscribes?: boolean;
  /** True if Nest fails when the handler's Observable ends without a value. */
  readonly needsValue?: boolean;
}

/** One run of a handler in its lifetime, from its start until it has settled. */
export class HandlerRun {
  readonly lifetime: Lifetime;
  readonly #waitsForEngine: boolean;
  readonly #before: ReadonlySet<Promise<void>> | undefined;
  #isSettled = false;

  constructor(lifetime: Lifetime, { waitsForEngine, isEndless = false }: Pick<HandlerOptions, 'waitsForEngine' | 'isEndless'>) {
    this.lifetime = lifetime;
    this.#waitsForEngine = waitsForEngine;
    this.#before = waitsForEngine ? lifetime.unacknowledged : undefined;
    lifetime.handlerStarted(isEndless);
  }

  /**
   * The promise to await before the answer, if tasks go to the engine first. It rejects only for a success: the error of a failure takes
   * precedence.
   */
  acknowledged(outcome: Outcome): Promise<void> | undefined {
    if (!this.#waitsForEngine) return undefined;
    const flushed = this.lifetime.flushBeforeResponse(outcome, this.#before);
    return outcome === 'failure' ? flushed?.catch(() => undefined) : flushed;
  }

  /** Ends the run, with its failure if it failed. Further calls are ignored. */
  settle(failure?: { readonly error: unknown }): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    if (failure) this.lifetime.markFailed(failure.error);
    this.lifetime.handlerSettled();
  }
}

/** The sequence around every handler: start, call, wait for the engine, mark a failure, settle. */
export async function runHandler(lifetime: Lifetime, options: HandlerOptions, call: () => unknown): Promise<unknown> {
  const run = new HandlerRun(lifetime, options);
  try {
    const result = await options.current.runInRequest(lifetime, call);
    if (options.subscribes && isObservable(result)) {
      // The values belong to another run, which begins when Nest subscribes. Nest may never do so.
      run.settle();
      return observeHandler(lifetime, options, () => result);
    }
    if (isStreaming(result)) lifetime.markStreaming();
    const acknowledged = run.acknowledged('success');
    if (acknowledged) await acknowledged;
    run.settle();
    return result;
  } catch (error) {
    await run.acknowledged('failure');
    run.settle({ error });
    throw error;
  }
}

/** The sequence around a handler that answers with an Observable. It may end early, for example when a client leaves an event stream. */
export function observeHandler(lifetime: Lifetime, options: HandlerOptions, handle: () => Observable<unknown>): Observable<unknown> {
  const { current, waitsForEngine, isEndless = false, needsValue = false } = options;
  return new Observable((subscriber) => {
    const run = new HandlerRun(lifetime, options);
    let isEmpty = needsValue;
    const subscription = current.runInRequest(lifetime, () =>
      (waitsForEngine ? afterAcknowledgement(handle(), run) : handle()).subscribe({
        next: (value) => {
          isEmpty = false;
          if (isStreaming(value)) lifetime.markStreaming();
          subscriber.next(value);
        },
        error: (error: unknown) => {
          lifetime.markFailed(error);
          subscriber.error(error);
        },
        complete: () => {
          // Nest fails if there is no value to send.
          if (isEmpty) lifetime.markFailed();
          subscriber.complete();
        },
      }),
    );
    // Before 11.2.10, Nest does not end an event stream that begins after its client has left.
    if (isEndless && lifetime.state === 'closing') run.settle();
    return () => {
      subscription.unsubscribe();
      run.settle();
    };
  });
}

/** Delays every value and the end of a handler until the engine has the tasks that go before the answer. */
function afterAcknowledgement(result: Observable<unknown>, run: HandlerRun): Observable<unknown> {
  const answers = result.pipe(
    // The client gets the handler's own error, even if the engine is down, too.
    catchError((error: unknown) =>
      concat(
        flushed(run.acknowledged('failure')),
        throwError(() => error),
      ),
    ),
    concatMap((value) => {
      const acknowledged = run.acknowledged('success');
      return acknowledged ? from(acknowledged).pipe(map(() => value)) : of(value);
    }),
  );
  return concat(
    answers,
    defer(() => flushed(run.acknowledged('success'))),
  );
}

function flushed(acknowledged: Promise<void> | undefined): Observable<never> {
  return from(acknowledged ?? []).pipe(ignoreElements());
}
