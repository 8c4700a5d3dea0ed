import { Logger } from '@nestjs/common';
import type { AnyFunction } from '../task/background-task.js';
import { currentTask } from '../task/current-task.js';
import { taskCalled } from '../task/errors.js';
import { type NamedMethod, classOf } from './named-methods.js';
import { NamedTask } from './named-task.js';

/** The same function, which warns, once, when it is called as a part of a plain task. */
export function watchCalls(method: NamedMethod, func: AnyFunction): AnyFunction {
  let warned = false;
  function watched(this: unknown, ...args: never[]): unknown {
    const task = warned ? undefined : currentTask();
    if (task && !(task instanceof NamedTask)) {
      warned = true;
      warn(method, task.name);
    }
    return func.apply(this, args);
  }
  // What other decorators have put on the function is looked for on it, or by its name.
  Object.setPrototypeOf(watched, func);
  Object.defineProperties(watched, { name: { value: func.name }, length: { value: func.length } });
  return watched;
}

function warn(method: NamedMethod, task: string): void {
  const call = `${classOf(method)}.${String(method.key)}`;
  new Logger('BackgroundTasks').warn(
    `${taskCalled(task)} calls the @BackgroundTask("${method.name}") method, which therefore runs in process, without its engine, attempts ` +
      `and timeout: write \`addTask(${call}, …)\` instead of \`addTask(() => ${call}(…))\``,
  );
}
