import type { BackgroundTask } from './background-task.js';

let current: BackgroundTask | undefined;

/**
 * The task that runs, from its call up to its first `await`; `undefined` elsewhere. Take what you need first thing:
 * `const signal = currentTask()?.signal`.
 */
export function currentTask(): BackgroundTask | undefined {
  return current;
}

/** Calls a function as the current task's. */
export function callAs<Task extends BackgroundTask, Result>(task: Task, func: (task: Task) => Result): Result {
  const outer = current;
  current = task;
  try {
    return func(task);
  } finally {
    current = outer;
  }
}
