import { type Observable, catchError, concat, concatMap, defer, from, ignoreElements, map, of, throwError } from 'rxjs';
import type { DeliverableTasks } from './deliverable-tasks.js';

/** What a handler answers, each value and the end held back until the engine has the tasks that go before it. */
export function heldBack(result: Observable<unknown>, tasks: DeliverableTasks): Observable<unknown> {
  const before = tasks.unacknowledged;
  const answers = result.pipe(
    // What the handler failed with is what the client hears, even if the engine is away, too.
    catchError((error: unknown) =>
      concat(
        flushed(tasks.flushFirst('failure', before)?.catch(() => undefined)),
        throwError(() => error),
      ),
    ),
    concatMap((value) => {
      const acknowledged = tasks.flushFirst('success', before);
      return acknowledged ? from(acknowledged).pipe(map(() => value)) : of(value);
    }),
  );
  return concat(
    answers,
    defer(() => flushed(tasks.flushFirst('success', before))),
  );
}

function flushed(acknowledged: Promise<void> | undefined): Observable<never> {
  return from(acknowledged ?? []).pipe(ignoreElements());
}
