import { AsyncLocalStorage } from 'node:async_hooks';
import type { BackgroundTask } from './background-task.js';

/** From Node 24 on, entering a store costs no promise anything. Before, the first one turns promise hooks on for the whole process. */
const STORES_ARE_FREE = Number.parseInt(process.versions.node, 10) >= 24;

/** The task that calls its function now, where no store is entered. */
let current: BackgroundTask | undefined;

/** The task, or the call of `onError`, that the current code is part of. */
const storage = new AsyncLocalStorage<BackgroundTask | OnErrorCall>();

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
  if (current) return current;
  const store = storage.getStore();
  return store instanceof OnErrorCall ? undefined : store;
}

/** The task, or the call of `onError`, that the current code is part of, where that is known: on Node 20 and 22 as for `currentTask()`. */
export function currentWork(): BackgroundTask | OnErrorCall | undefined {
  return current ?? storage.getStore();
}

/** Calls a function as part of a task, or of a call of `onError`, to the end of all that the function sets off. */
export function runWithStore<Result>(work: BackgroundTask | OnErrorCall, func: () => Result): Result {
  return storage.run(work, func);
}

/** Calls `onError`. A store is entered only where tasks have one, too. */
export function runOnError<Result>(call: OnErrorCall, func: () => Result): Result {
  return STORES_ARE_FREE || storage.getStore() ? storage.run(call, func) : func();
}

/** Calls a function as part of a task: to its end on Node 24 and later, and up to its first `await` before. */
export function runAs<Task extends BackgroundTask, Result>(task: Task, func: (task: Task) => Result): Result {
  const store = storage.getStore();
  if (STORES_ARE_FREE) return store === task ? func(task) : storage.run(task, func, task);
  // A task made by hand, run by one that has a store.
  if (store && store !== task) return storage.run(task, () => runAs(task, func));
  const outer = current;
  current = task;
  try {
    return func(task);
  } finally {
    current = outer;
  }
}
