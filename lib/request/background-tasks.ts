import { type InspectOptions, inspect } from 'node:util';
import { Inject, Injectable, Scope, createParamDecorator } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import { type BackgroundTask, classAndDecorator, makeTask } from '../engine/background-task.js';
import type { BackgroundTaskOptions } from '../engine/options.js';
import { HandMadeList } from '../list/hand-made-list.js';
import type { Argument, ArgumentsFor, Primitive, TheFunctionItself } from '../task/background-task.js';
import { BackgroundTasksError } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { registerCopy, tasksOf, tasksOfContext } from './context.js';

/** The tasks of a request, like FastAPI's `BackgroundTasks`. */
export interface BackgroundTasks {
  /** The tasks added so far. A task of a request leaves the list when it starts. */
  readonly tasks: readonly BackgroundTask[];

  /**
   * Adds a function to be called with these arguments after the response. Returns the task, to follow or cancel it: `id`, `ended`,
   * `cancel()`.
   *
   * Wrap a plain method in a closure, and pass its values as arguments: `addTask((to) => this.mail.send(to), dto.email)`. A bare
   * `this.mail.send` loses its `this`, which this package cannot detect. A closure without arguments sees later changes that the handler
   * makes. Pass a `@BackgroundTask()` method as it is: `addTask(this.mail.sendInvoice, dto.email)`.
   *
   * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` if there is no function, `BACKGROUND_TASK_INVALID_OPTION` for a bad option,
   * `BACKGROUND_TASK_OVERFLOW` if `maxPending` tasks wait already, `BACKGROUND_TASK_SHUTDOWN` once the application has closed.
   */
  addTask<Args extends Argument<Literal>[], Literal extends Primitive = Primitive>(
    func: TheFunctionItself<Args>,
    ...args: ArgumentsFor<Args>
  ): BackgroundTask;
  addTask<Args extends Argument<Literal>[], Literal extends Primitive = Primitive>(
    options: BackgroundTaskOptions,
    func: TheFunctionItself<Args>,
    ...args: ArgumentsFor<Args>
  ): BackgroundTask;

  /**
   * Runs the tasks of a list made by hand, in order, once each. `runOn` is ignored. Tasks that they add run as well.
   *
   * @throws The error of the task that failed; an `AggregateError` if several did.
   */
  run(): Promise<void>;

  /** Used by `JSON.stringify`: the tasks, without their arguments. */
  toJSON(): readonly BackgroundTask[];
}

export interface BackgroundTasksConstructor {
  readonly prototype: BackgroundTasks;
  /**
   * Makes a list by hand, for a unit test. To get the list of a request, inject it instead.
   *
   * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` if `tasks` is not an array of tasks.
   */
  new (tasks?: readonly BackgroundTask[]): BackgroundTasks;
  (): ParameterDecorator;
  /**
   * The list of an execution context, of a request, or of a GraphQL context, without injection: for guards, interceptors, filters and
   * middleware that stay singletons.
   *
   * @throws BackgroundTasksError `BACKGROUND_TASK_MODULE_NOT_IMPORTED` if no open application has the request,
   * `BACKGROUND_TASK_UNSUPPORTED_CONTEXT` if there is no request.
   */
  of(context: ExecutionContext | object): BackgroundTasks;
}

/** The target of a `BackgroundTasks`: the list of a request, or a list made by hand. */
export interface TasksTarget {
  readonly tasks: readonly Task[];
  add(task: Task): void;
  run(): Promise<void>;
}

/** The key of the target. Unlike a private field, it works through a proxy; and code that deep-freezes objects does not see a symbol. */
const TARGET = Symbol('target');

/** The implementation behind `BackgroundTasks`. It is never written to, so that a frozen one works. */
class Tasks {
  readonly [TARGET]: TasksTarget;

  constructor(target: TasksTarget) {
    this[TARGET] = target;
  }

  static of(source: ExecutionContext | object): object {
    return tasksOf(source);
  }

  get tasks(): readonly Task[] {
    return this[TARGET].tasks;
  }

  addTask(first: unknown, ...rest: unknown[]): Task {
    const task = makeTask(first, rest);
    this[TARGET].add(task);
    return task;
  }

  run(): Promise<void> {
    return this[TARGET].run();
  }

  toJSON(): readonly Task[] {
    return this.tasks;
  }

  /** The text that `console.log` prints. */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    return `BackgroundTasks ${inspect(this.tasks, options)}`;
  }
}

/**
 * The tasks that run after the response of the current request, like FastAPI's `BackgroundTasks`.
 *
 * Take it as a parameter of a handler, `@BackgroundTasks() tasks: BackgroundTasks`, or inject it by its type. Both give you the one list of
 * the request. Injection makes a provider request-scoped; the parameter does not.
 */
export const BackgroundTasks: BackgroundTasksConstructor = classAndDecorator(
  Tasks,
  'BackgroundTasks',
  decorateParameter,
  (tasks?: readonly Task[]) => new Tasks(new HandMadeList(tasks)),
);

/** Makes a `BackgroundTasks` that adds its tasks to a target. */
export function tasksFor(target: TasksTarget): BackgroundTasks {
  // `BackgroundTasks` has narrower types, for users.
  return new Tasks(target) as unknown as BackgroundTasks;
}

Injectable({ scope: Scope.REQUEST })(BackgroundTasks);
// If users list it as a provider, Nest would make lists that nothing runs. This dependency does not exist, so that Nest fails at boot with
// this text.
Inject('the list of a request: import BackgroundTasksModule, and leave BackgroundTasks out of `providers`')(BackgroundTasks, undefined, 0);

const HandlerParameter = createParamDecorator((_: unknown, context: ExecutionContext) => tasksOfContext(context));

function decorateParameter(...decorated: unknown[]): ParameterDecorator {
  if (decorated.length > 0) throw misplaced('is missing its parentheses', decorated);
  registerCopy();
  return (...where) => {
    const [target, method, index] = where;
    // Without type checks, it may be on a property, a method or a class.
    if (typeof index !== 'number') throw misplaced('cannot be used here', where);
    if (method === undefined) return Inject(BackgroundTasks)(target, method, index);
    HandlerParameter()(target, method, index);
    // A global ValidationPipe with `validateCustomDecorators` validates, and clones, values whose type is a class. It leaves Object alone.
    const types: unknown[] | undefined = Reflect.getMetadata('design:paramtypes', target, method);
    if (types) types[index] = Object;
  };
}

function misplaced(problem: string, [target, key]: unknown[]): BackgroundTasksError {
  const owner = typeof target === 'function' ? target.name : String(target?.constructor.name);
  return new BackgroundTasksError(
    'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
    `@BackgroundTasks ${problem}, on ${owner}${key === undefined ? '' : `.${String(key)}`}: write \`@BackgroundTasks() tasks: BackgroundTasks\` for a ` +
      'parameter of a handler or of a constructor, and `@Inject() tasks: BackgroundTasks` for a property',
  );
}
