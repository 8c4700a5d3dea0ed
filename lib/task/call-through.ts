import type { BackgroundTask } from './background-task.js';
import { holdTask } from './current-task.js';
import { BackgroundTasksError, taskCalled } from './errors.js';

/** The option `around` of an application. */
export type Around = (task: BackgroundTask, next: () => Promise<void>) => unknown;

/** Calls a task, and returns what has to be awaited. */
type Call = () => PromiseLike<unknown> | undefined;

/** What an application calls its tasks through. */
export type CallThrough = (task: BackgroundTask, call: Call) => PromiseLike<unknown> | undefined;

/** What tasks are called through: `undefined` where a plain call is enough, which costs nothing. */
export function callThrough(holdsCurrentTask: boolean, around: Around | undefined): CallThrough | undefined {
  const throughAround: CallThrough | undefined = around && ((task, call) => callAround(around, task, call));
  if (!holdsCurrentTask) return throughAround;
  return (task, call) => holdTask(task, throughAround ? () => throughAround(task, call) : call);
}

async function callAround(around: Around, task: BackgroundTask, call: Call): Promise<void> {
  let end: Promise<void> | undefined;
  let over = false;
  const next = (): Promise<void> => {
    if (!end) {
      end = over || task.signal.aborted ? Promise.reject(tooLate(task)) : run(call);
      // Nobody may wait for it, or not yet.
      end.catch(() => undefined);
    }
    return end;
  };
  try {
    await around(task, next);
    if (!end) throw notCalled(task);
  } finally {
    over = true;
    // What `around` throws comes first. It need not have waited, and what the task fails with is a failure all the same.
    await end?.catch(() => undefined);
  }
  await end;
}

async function run(call: Call): Promise<void> {
  await call();
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
