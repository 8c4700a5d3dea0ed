import { type Observable, isObservable } from 'rxjs';
import type { BackgroundTask } from './background-task.js';
import { STORES_ARE_FREE, runAs, runWithStore } from './current-task.js';
import { BackgroundTasksError, taskCalled } from './errors.js';

/** The option `around` of an application. */
export type Around = (task: BackgroundTask, next: () => Promise<unknown>) => unknown;

/** Calls the tasks of an application. Returns the part of the result that has to be awaited. */
export type TaskCaller = (task: CallableTask) => PromiseLike<unknown> | undefined;

interface CallableTask extends BackgroundTask {
  /** Calls the function of the task. */
  call(): unknown;
}

/**
 * Makes the caller for the tasks of an application: through the option `around`, and inside a store, which keeps `currentTask()` set to the
 * end of the task on every version of Node. Returns undefined if a plain call is enough, which costs nothing.
 */
export function taskCaller(keepsCurrentTask: boolean, around: Around | undefined): TaskCaller | undefined {
  // On Node 24 and later, `runAs` enters a store for every call.
  if (!around) return keepsCurrentTask && !STORES_ARE_FREE ? (task) => runWithStore(task, () => callPlainly(task)) : undefined;
  const throughAround: TaskCaller = (task) => callAround(around, task, () => callToEnd(task));
  return keepsCurrentTask || STORES_ARE_FREE ? (task) => runWithStore(task, () => throughAround(task)) : throughAround;
}

/** Calls the function of a task, and returns the part of its result that has to be awaited. */
export function callTask(task: CallableTask, caller: TaskCaller | undefined): PromiseLike<unknown> | undefined {
  return caller ? caller(task) : callPlainly(task);
}

function callPlainly(task: CallableTask): PromiseLike<unknown> | undefined {
  return runAs(task, callFunction);
}

/**
 * Calls the function, waits for all of its work, and returns its result: the value of a promise, nothing for an Observable. A promise may
 * resolve with an Observable, hence the loop.
 */
async function callToEnd(task: CallableTask): Promise<unknown> {
  let result = runAs(task, () => task.call());
  while (isObject(result)) {
    const object = result;
    // The context that `around` has set up.
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
 * The part of a function's result that has to be awaited: a promise, or the end of an Observable. The Observable is subscribed to, as Nest
 * does with the result of a handler.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` for an iterator: nothing iterates it, and the task would silently do nothing.
 */
export function unfinishedPart(task: BackgroundTask, result: object): PromiseLike<unknown> | undefined {
  // A query of an ORM starts when its `then` is called: from here, that is in the context of the task.
  if ('then' in result && typeof result.then === 'function') return Promise.resolve(result as PromiseLike<unknown>);
  if (isObservable(result)) return endOfObservable(result, task.signal);
  if (isIterator(result)) {
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_INVALID_TASK',
      `${taskCalled(task.name)} returned an iterator, which nothing iterates, so its work was not done, or not all of it. ` +
        'Iterate it in the task, `for await (const item of items()) { … }`, or return a promise',
    );
  }
  return undefined;
}

/** Subscribes to an Observable until it ends or the signal fires. */
function endOfObservable(observable: Observable<unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const subscription = observable.subscribe({ complete: resolve, error: reject });
    signal.addEventListener('abort', () => {
      try {
        subscription.unsubscribe();
        reject(signal.reason);
      } catch (error) {
        // This is a listener: an error that it throws would end the process.
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
      // `around` need not await it. Without this handler, a rejection would be unhandled.
      end.catch(() => undefined);
    }
    return end;
  };
  try {
    await around(task, next);
    if (!end) throw notCalled(task);
  } finally {
    isOver = true;
    // If `around` did not await the task, it is awaited here, so that its failure counts. An error of `around` takes precedence.
    await end?.catch(() => undefined);
  }
  await end;
}

function tooLate(task: BackgroundTask): unknown {
  return task.signal.aborted ? task.signal.reason : notCalled(task);
}

function notCalled({ name }: BackgroundTask): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `${taskCalled(name)} was not run: the option \`around\` of BackgroundTasksModule ended without calling \`next()\`. Return \`next()\` from it`,
  );
}
