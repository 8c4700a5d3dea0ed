import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import type { BackgroundTask } from './background-task.js';

/** From Node 24 on, entering a store costs no promise anything. Before, the first one turns promise hooks on for the whole process. */
export const STORES_ARE_FREE = Number.parseInt(process.versions.node, 10) >= 24;

/** The task, or the call of `onError`, whose function is being called now, where no store is entered. */
let current: BackgroundTask | OnErrorCall | undefined;

/** The task, or the call of `onError`, that the current code is part of. */
const storage = new AsyncLocalStorage<BackgroundTask | OnErrorCall>();

/** The async context in which this file was loaded, which is that of no request. */
const outside = new AsyncResource('BackgroundTasks');

/** Calls a function that makes a promise or a timer which outlives its request, and must not keep the async context of that. */
export function runOutside<Result>(func: () => Result): Result {
  return outside.runInAsyncScope(func);
}

/** One call of `onError`. It is not part of the task that failed, which has ended. */
export class OnErrorCall {
  /** The runner that calls it, until it has ended. */
  caller: object | undefined;

  constructor(caller: object) {
    this.caller = caller;
  }
}

/**
 * The task that runs; `undefined` elsewhere.
 *
 * On Node 24 and later it holds to the end of the task. Before that, it holds up to the first `await`, so read it at the beginning:
 * `const signal = currentTask()?.signal`. In a worker, under `Scope.DEFAULT`, and in an application that has `@BackgroundTask()` methods, it
 * holds to the end of the task on every version of Node.
 */
export function currentTask(): BackgroundTask | undefined {
  const work = currentWork();
  return work instanceof OnErrorCall ? undefined : work;
}

/** The task, or the call of `onError`, that the current code is part of, where that is known: on Node 20 and 22 as for `currentTask()`. */
export function currentWork(): BackgroundTask | OnErrorCall | undefined {
  return current ?? storage.getStore();
}

/** Calls a function as part of a task, or of a call of `onError`, to the end of all that the function sets off. */
export function runWithStore<Result>(work: BackgroundTask | OnErrorCall, func: () => Result): Result {
  return storage.run(work, func);
}

/** Calls a function as part of a task, or of a call of `onError`: to its end on Node 24 and later, and up to its first `await` before. */
export function runAs<Work extends BackgroundTask | OnErrorCall, Result>(work: Work, func: (work: Work) => Result): Result {
  const store = storage.getStore();
  if (STORES_ARE_FREE) return store === work ? func(work) : storage.run(work, func, work);
  // Tasks of this application have a store, and this is a call of `onError`, or a task made by hand.
  if (store && store !== work) return storage.run(work, () => runAs(work, func));
  const outer = current;
  current = work;
  try {
    return func(work);
  } finally {
    current = outer;
  }
}
