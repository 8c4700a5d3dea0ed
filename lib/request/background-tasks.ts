import { Inject, Injectable, Scope, createParamDecorator } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import type { BackgroundTask } from '../engine/background-task.js';
import { classAndDecorator } from '../engine/class-and-decorator.js';
import { makeTask } from '../engine/make-task.js';
import type { BackgroundTaskOptions } from '../engine/options.js';
import { TaskList } from '../list/task-list.js';
import type { Task } from '../task/task.js';
import { tasksOf } from './tasks-of.js';

/** The tasks of a request, as FastAPI's `BackgroundTasks`. */
export interface BackgroundTasks {
  /** The tasks added so far. Those of a request leave its list when they start. */
  readonly tasks: readonly BackgroundTask[];

  /**
   * Adds a function, to be called with these arguments once the response is out.
   *
   * Pass a method in a closure, `() => this.mailer.send(to)`: that a bare `this.mailer.send` has lost its `this` cannot be detected.
   *
   * @throws BackgroundTasksError `INVALID_TASK` without a function, `INVALID_OPTION` for a bad option, `OVERFLOW` beyond `maxPending`,
   * `SHUTDOWN` once the application has closed.
   */
  addTask<Args extends unknown[]>(func: (...args: Args) => unknown, ...args: NoInfer<Args>): void;
  addTask<Args extends unknown[]>(options: BackgroundTaskOptions, func: (...args: Args) => unknown, ...args: NoInfer<Args>): void;

  /**
   * Runs the tasks of a list made by hand, in order, each once, whatever its `runOn`; tasks that they add run, too.
   *
   * @throws The error of the task that failed; an `AggregateError` if several did.
   */
  run(): Promise<void>;

  /** What `JSON.stringify` makes of the list: its tasks, without their arguments. */
  toJSON(): readonly BackgroundTask[];
}

export interface BackgroundTasksConstructor {
  readonly prototype: BackgroundTasks;
  /**
   * A list made by hand, for a unit test. Inject the list of a request instead.
   *
   * @throws BackgroundTasksError `INVALID_TASK` for what is not an array of tasks.
   */
  new (tasks?: readonly BackgroundTask[]): BackgroundTasks;
  (): ParameterDecorator;
}

/**
 * The tasks that run once the response of the current request is out, as FastAPI's `BackgroundTasks`.
 *
 * Inject it by type into anything that a request makes, or take it as `@BackgroundTasks() tasks: BackgroundTasks` in a handler, which does
 * not make the controller request-scoped: both are the one list of the request.
 */
export const BackgroundTasks: BackgroundTasksConstructor = classAndDecorator(
  TaskList,
  'BackgroundTasks',
  decorateParameter,
  (tasks?: readonly Task[]) => new TaskList(tasks),
);

// The list stands below what knows every kind of task.
TaskList.makeTask = makeTask;

Injectable({ scope: Scope.REQUEST })(BackgroundTasks);
// Listed as a provider, Nest would make lists that nobody runs: it stops at boot for want of this, and says so.
Inject('the list of a request: import BackgroundTasksModule, and leave BackgroundTasks out of `providers`')(BackgroundTasks, undefined, 0);

const HandlerParameter = createParamDecorator((_: unknown, context: ExecutionContext) => tasksOf(context));

function decorateParameter(): ParameterDecorator {
  return (target, method, index) => {
    if (method === undefined) return Inject(BackgroundTasks)(target, method, index);
    HandlerParameter()(target, method, index);
    // A global ValidationPipe with `validateCustomDecorators` validates, and clones, what has a class for its type. It leaves Object alone.
    const types: unknown[] | undefined = Reflect.getMetadata('design:paramtypes', target, method);
    if (types) types[index] = Object;
  };
}
