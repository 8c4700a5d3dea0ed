import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import type { BackgroundTask } from './background-task.js';

/** From Node 24 on, entering a store costs promises nothing. Before, the first store turns promise hooks on for the whole process. */
export const STORES_ARE_FREE = Number.parseInt(process.versions.node, 10) >= 24;

/** The task, or the call of `onError`, that is being called now. Only used if no store is entered. */
let current: BackgroundTask | OnErrorCall | undefined;

/** The task, or the call of `onError`, that the current code is part of. */
const storage = new AsyncLocalStorage<BackgroundTask | OnErrorCall>();

/** The async context in which this file was loaded: it belongs to no request. */
const outside = new AsyncResource('BackgroundTasks');

/** Calls a function outside any request. For promises and timers that outlive the request, and must not retain its async context. */
export function runOutside<Result>(func: () => Result): Result {
  return outside.runInAsyncScope(func);
}

/** One call of `onError`. It is not part of the failed task, which has ended. */
export class OnErrorCall {
  /** The runner that calls it, until it has ended. */
  caller: object | undefined;

  constructor(caller: object) {
    this.caller = caller;
  }
}

/**
 * The running task; `undefined` outside tasks.
 *
 * On Node 24 and later it is set to the end of the task. On earlier versions it is set up to the first `await`, so read it at the
 * beginning: `const signal = currentTask()?.signal`. In workers, under `Scope.DEFAULT`, and in applications with `@BackgroundTask()`
 * methods, it is set to the end of the task on every version of Node.
 */
export function currentTask(): BackgroundTask | undefined {
  const work = currentWork();
  return work instanceof OnErrorCall ? undefined : work;
}

/** The task, or the call of `onError`, that the current code is part of. On Node 20 and 22 it has the limits of `currentTask()`. */
export function currentWork(): BackgroundTask | OnErrorCall | undefined {
  return current ?? storage.getStore();
}

/** Calls a function as part of a task, or of a call of `onError`, including all async work that the function starts. */
export function runWithStore<Result>(work: BackgroundTask | OnErrorCall, func: () => Result): Result {
  return storage.run(work, func);
}

/**
 * Calls a function as part of a task, or of a call of `onError`: to its end on Node 24 and later, up to its first `await` on earlier
 * versions.
 */
export function runAs<Work extends BackgroundTask | OnErrorCall, Result>(work: Work, func: (work: Work) => Result): Result {
  const store = storage.getStore();
  if (STORES_ARE_FREE) return store === work ? func(work) : storage.run(work, func, work);
  // `onError`, or a task made by hand, in another task's store. Without its own store, that task would be current after an `await`.
  if (store && store !== work) return storage.run(work, () => runAs(work, func));
  const outer = current;
  current = work;
  try {
    return func(work);
  } finally {
    current = outer;
  }
}
