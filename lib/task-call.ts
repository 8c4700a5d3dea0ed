import { traced } from './background-tasks.diagnostics.js';
import type { BackgroundTask } from './background-task.js';

/** Told once how a task ended, and, if it was given up, how its function ended after all. */
export interface TaskObserver {
  completed(task: BackgroundTask): void;
  failed(task: BackgroundTask, error: unknown): void;
  endedLate(task: BackgroundTask, how: 'completed' | 'failed', error?: unknown): void;
}

let current: BackgroundTask | undefined;

/**
 * The task that runs, from its call up to its first `await`; `undefined` elsewhere. Take what you need first thing:
 * `const signal = currentTask()?.signal`.
 */
export function currentTask(): BackgroundTask | undefined {
  return current;
}

/** Calls the function of a task, as its current task, and returns what has to be awaited. */
export function call(task: BackgroundTask): PromiseLike<unknown> | undefined {
  const outer = current;
  current = task;
  try {
    const result = task.call();
    return isThenable(result) ? result : undefined;
  } finally {
    current = outer;
  }
}

/** The same, for who traces it, and needs a promise of its end. */
export function callTraced(task: BackgroundTask, timeout: number | undefined, observer: TaskObserver): Promise<void> | undefined {
  return traced(task, () => {
    const end = call(task);
    if (!end) return undefined;
    return new Promise((resolve, reject) =>
      task.awaits(end, timeout, {
        completed: () => resolve(),
        failed: (_, error) => reject(error),
        endedLate: (...how) => observer.endedLate(...how),
      }),
    );
  });
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    (typeof value === 'object' || typeof value === 'function') && value !== null && 'then' in value && typeof value.then === 'function'
  );
}
