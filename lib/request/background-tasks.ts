import { Inject, Injectable, Scope, createParamDecorator } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import type { BackgroundTask } from '../engine/background-task.js';
import { classAndDecorator } from '../engine/class-and-decorator.js';
import { makeTask } from '../engine/make-task.js';
import { TaskList } from '../list/task-list.js';
import type { BackgroundTasks as TasksInterface } from '../runner/background-tasks.js';
import { BackgroundTasksError } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { tasksOf } from './tasks-of.js';

export interface BackgroundTasks extends TasksInterface {}

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
 * Take it as a parameter of a handler, `@BackgroundTasks() tasks: BackgroundTasks`, or inject it by its type. Either way it is the one list of
 * the request. Injection makes a provider request-scoped; the parameter does not.
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
// If it is listed as a provider, Nest would make lists that nobody runs. As it finds no such dependency, it stops at boot, and says this.
Inject('the list of a request: import BackgroundTasksModule, and leave BackgroundTasks out of `providers`')(BackgroundTasks, undefined, 0);

const HandlerParameter = createParamDecorator((_: unknown, context: ExecutionContext) => tasksOf(context));

function decorateParameter(...decorated: unknown[]): ParameterDecorator {
  if (decorated.length > 0) throw misplaced('has no parentheses', decorated);
  return (...where) => {
    const [target, method, index] = where;
    // Where types are not checked, it may stand on a property, a method or a class.
    if (typeof index !== 'number') throw misplaced('is no parameter decorator there', where);
    if (method === undefined) return Inject(BackgroundTasks)(target, method, index);
    HandlerParameter()(target, method, index);
    // A global ValidationPipe with `validateCustomDecorators` validates, and clones, what has a class for its type. It leaves Object alone.
    const types: unknown[] | undefined = Reflect.getMetadata('design:paramtypes', target, method);
    if (types) types[index] = Object;
  };
}

function misplaced(what: string, [target, key]: unknown[]): BackgroundTasksError {
  const owner = typeof target === 'function' ? target.name : String(target?.constructor.name);
  return new BackgroundTasksError(
    'UNSUPPORTED_CONTEXT',
    `@BackgroundTasks ${what}, on ${owner}${key === undefined ? '' : `.${String(key)}`}: write \`@BackgroundTasks() tasks: BackgroundTasks\` for a ` +
      'parameter of a handler or of a constructor, and `@Inject() tasks: BackgroundTasks` for a property',
  );
}
