import type { BackgroundTask } from './background-task.js';
import type { CallThrough } from './call-through.js';
import { callAs } from './current-task.js';
import { isObject, whatIsLeft } from './result.js';

interface CallableTask extends BackgroundTask {
  /** Calls the function of the task. */
  call(): unknown;
}

/** Calls the function of a task, through something if that is given, and returns what has to be awaited. */
export function callTask(task: CallableTask, through?: CallThrough): PromiseLike<unknown> | undefined {
  return through ? through(task, () => callToItsEnd(task)) : callAs(task, callFunction);
}

/** The same for what waits for the function itself, and not for a promise of something that is still to be done. */
function callToItsEnd(task: CallableTask): PromiseLike<unknown> | undefined {
  const end = callAs(task, callFunction);
  return end && wholeEnd(task, end);
}

async function wholeEnd(task: CallableTask, end: PromiseLike<unknown>): Promise<void> {
  const value = await end;
  // In the context that `around` has set.
  if (isObject(value)) await callAs(task, () => whatIsLeft(task, value));
}

function callFunction(task: CallableTask): PromiseLike<unknown> | undefined {
  const result = task.call();
  return isObject(result) ? whatIsLeft(task, result) : undefined;
}
