import { type Observable, isObservable } from 'rxjs';
import type { BackgroundTask } from './background-task.js';
import { STORES_ARE_FREE, runAs, runWithStore } from './current-task.js';
import { BackgroundTasksError, taskCalled } from './errors.js';

/** The option `around` of an application. */
export type Around = (task: BackgroundTask, next: () => Promise<unknown>) => unknown;

/** How an application calls its tasks. Returns the part that has to be awaited. */
export type TaskCaller = (task: CallableTask) => PromiseLike<unknown> | undefined;

interface CallableTask extends BackgroundTask {
  /** Calls the function of the task. */
  call(): unknown;
}

/**
 * How an application calls its tasks: inside a store, so that `currentTask()` holds to the end of the task on every version of Node, and
 * through its option `around`. Undefined where a plain call is enough, which costs nothing.
 */
export function taskCaller(holdsCurrentTask: boolean, around: Around | undefined): TaskCaller | undefined {
  // On Node 24 and later, each call of a function enters a store.
  if (!around) return holdsCurrentTask && !STORES_ARE_FREE ? (task) => runWithStore(task, () => callPlainly(task)) : undefined;
  const throughAround: TaskCaller = (task) => callAround(around, task, () => callToEnd(task));
  return holdsCurrentTask || STORES_ARE_FREE ? (task) => runWithStore(task, () => throughAround(task)) : throughAround;
}

/** Calls the function of a task, and returns the part that has to be awaited. */
export function callTask(task: CallableTask, caller: TaskCaller | undefined): PromiseLike<unknown> | undefined {
  return caller ? caller(task) : callPlainly(task);
}

function callPlainly(task: CallableTask): PromiseLike<unknown> | undefined {
  return runAs(task, callFunction);
}

/**
 * Calls the function for a caller that waits for all of its work, as a promise may resolve with an Observable, and gets its result: that of a
 * promise is its value, and an Observable has none.
 */
async function callToEnd(task: CallableTask): Promise<unknown> {
  let result = runAs(task, () => task.call());
  while (isObject(result)) {
    const object = result;
    // In the context that `around` has set.
    const unfinished = runAs(task, () => unfinishedPart(task, object));
    if (!unfinished) break;
    result = await unfinished;
  }
  return result;
}

function callFunction(task: CallableTask): PromiseLike<unknown> | undefined {
  const result = task.call();
  return isObject(result) ? unfinishedPart(task, result) : undefined;
}

export function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}

/**
 * The part of a function's result that has to be awaited: a promise, or the end of an Observable, which is subscribed to, as Nest does with
 * the result of a handler.
 *
 * @throws BackgroundTasksError `INVALID_TASK` for an iterator: nobody iterates it, and the task would silently do nothing.
 */
export function unfinishedPart(task: BackgroundTask, result: object): PromiseLike<unknown> | undefined {
  if ('then' in result && typeof result.then === 'function') return result as PromiseLike<unknown>;
  if (isObservable(result)) return endOfObservable(result, task.signal);
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
function endOfObservable(observable: Observable<unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const subscription = observable.subscribe({ complete: resolve, error: reject });
    signal.addEventListener('abort', () => {
      try {
        subscription.unsubscribe();
        reject(signal.reason);
      } catch (error) {
        // Thrown on, the error of a teardown would end the process: this is a listener.
        reject(error);
      }
    });
  });
}

function isIterator(value: object): boolean {
  return 'next' in value && typeof value.next === 'function' && (Symbol.asyncIterator in value || Symbol.iterator in value);
}

async function callAround(around: Around, task: BackgroundTask, call: () => Promise<unknown>): Promise<void> {
  let end: Promise<unknown> | undefined;
  let isOver = false;
  const next = (): Promise<unknown> => {
    if (!end) {
      end = isOver || task.signal.aborted ? Promise.reject(tooLate(task)) : call();
      // Nobody may wait for it, or not yet.
      end.catch(() => undefined);
    }
    return end;
  };
  try {
    await around(task, next);
    if (!end) throw notCalled(task);
  } finally {
    isOver = true;
    // An error of `around` comes first. It need not have waited for the task, whose failure counts all the same.
    await end?.catch(() => undefined);
  }
  await end;
}

function tooLate(task: BackgroundTask): unknown {
  return task.signal.aborted ? task.signal.reason : notCalled(task);
}

function notCalled({ name }: BackgroundTask): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_TASK',
    `${taskCalled(name)} was not run: the option \`around\` of BackgroundTasksModule ended without a call of \`next()\`; have it return \`next()\``,
  );
}
