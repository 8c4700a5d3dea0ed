import { type Observable, isObservable } from 'rxjs';
import type { BackgroundTask } from './background-task.js';
import { BackgroundTasksError, taskCalled } from './errors.js';

export function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}

/**
 * What has to be awaited of what a task's function returned: a promise, or the end of an Observable, which is subscribed to, as Nest does with
 * what a handler returns.
 *
 * @throws BackgroundTasksError `INVALID_TASK` for an iterator: nobody iterates it, and the task would silently do nothing.
 */
export function whatIsLeft(task: BackgroundTask, result: object): PromiseLike<unknown> | undefined {
  if ('then' in result && typeof result.then === 'function') return result as PromiseLike<unknown>;
  if (isObservable(result)) return endOf(result, task.signal);
  if (isIterator(result)) {
    throw new BackgroundTasksError(
      'INVALID_TASK',
      `${taskCalled(task.name)} returned an iterator, which nobody iterates, so that nothing, or not all of it, has been done: ` +
        'iterate it in the task, `for await (const item of items()) { … }`, or return a promise',
    );
  }
  return undefined;
}

/** Subscribes to an Observable, until the signal fires. */
function endOf(observable: Observable<unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const subscription = observable.subscribe({ complete: resolve, error: reject });
    signal.addEventListener('abort', () => {
      subscription.unsubscribe();
      reject(signal.reason);
    });
  });
}

function isIterator(value: object): boolean {
  return 'next' in value && typeof value.next === 'function' && (Symbol.asyncIterator in value || Symbol.iterator in value);
}
