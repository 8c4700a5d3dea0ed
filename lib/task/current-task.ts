import { AsyncLocalStorage } from 'node:async_hooks';
import type { BackgroundTask } from './background-task.js';

let current: BackgroundTask | undefined;

/** The task to whose end the current code belongs. Entered only where that was asked for: on Node 20 a store costs every promise of the process. */
const held = new AsyncLocalStorage<BackgroundTask>();

/**
 * The task that runs, up to its first `await`; `undefined` elsewhere. Read what you need at the beginning:
 * `const signal = currentTask()?.signal`.
 *
 * In a worker, under `Scope.DEFAULT`, and in an application that has `@BackgroundTask()` methods, it holds to the end of the task, also
 * behind a decorator that wraps the method.
 */
export function currentTask(): BackgroundTask | undefined {
  return current ?? held.getStore();
}

/** Calls a function as one of the current task, which it stays to the end of all that the function sets off. */
export function holdTask<Result>(task: BackgroundTask, func: () => Result): Result {
  return held.run(task, func);
}

/** Calls a function as the current task's. */
export function callAs<Task extends BackgroundTask, Result>(task: Task, func: (task: Task) => Result): Result {
  // Run by hand, by a task that is held.
  const holder = held.getStore();
  if (holder && holder !== task) return holdTask(task, () => callAs(task, func));
  const outer = current;
  current = task;
  try {
    return func(task);
  } finally {
    current = outer;
  }
}
