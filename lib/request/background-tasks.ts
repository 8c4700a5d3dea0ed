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

/** The tasks of a request, as FastAPI's `BackgroundTasks`. */
export interface BackgroundTasks {
  /** The tasks added so far. Those of a request leave its list when they start. */
  readonly tasks: readonly BackgroundTask[];

  /**
   * Adds a function, to be called with these arguments once the response is out. Returns the task, to hold on to: its `id`, how it `ended`, and
   * `cancel()`.
   *
   * A plain method goes into a closure, with its values as arguments: `addTask((to) => this.mail.send(to), dto.email)`. A bare
   * `this.mail.send` has lost its `this`, which cannot be detected. A closure that takes no arguments reads what the handler may change later.
   * A `@BackgroundTask()` method is passed itself: `addTask(this.mail.sendInvoice, dto.email)`.
   *
   * @throws BackgroundTasksError `INVALID_TASK` without a function, `INVALID_OPTION` for a bad option, `OVERFLOW` beyond `maxPending`,
   * `SHUTDOWN` once the application has closed.
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
   * @throws BackgroundTasksError `INVALID_TASK` if it is given anything but an array of tasks.
   */
  new (tasks?: readonly BackgroundTask[]): BackgroundTasks;
  (): ParameterDecorator;
  /**
   * The list of an execution context, of a request, or of a GraphQL context, without injection: for guards, interceptors, filters and middleware
   * that stay singletons.
   *
   * @throws BackgroundTasksError `MODULE_NOT_IMPORTED` if no open application has the request, `UNSUPPORTED_CONTEXT` if there is none.
   */
  of(context: ExecutionContext | object): BackgroundTasks;
}

/** Where the tasks of a `BackgroundTasks` go: the list of a request, or one made by hand. */
export interface TasksTarget {
  readonly tasks: readonly Task[];
  add(task: Task): void;
  run(): Promise<void>;
}

/** The key of the target. Code that freezes objects and all that they hold does not find it, and a proxy does, unlike a private field. */
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

  /** What `console.log` prints. */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    return `BackgroundTasks ${inspect(this.tasks, options)}`;
  }
}

/**
 * The tasks that run once the response of the current request is out, as FastAPI's `BackgroundTasks`.
 *
 * Take it as a parameter of a handler, `@BackgroundTasks() tasks: BackgroundTasks`, or inject it by its type. Either way it is the one list of
 * the request. Injection makes a provider request-scoped; the parameter does not.
 */
export const BackgroundTasks: BackgroundTasksConstructor = classAndDecorator(
  Tasks,
  'BackgroundTasks',
  decorateParameter,
  (tasks?: readonly Task[]) => new Tasks(new HandMadeList(tasks)),
);

/** A `BackgroundTasks` whose tasks go to a target. */
export function tasksFor(target: TasksTarget): BackgroundTasks {
  // Its types of tasks are the narrower ones of users.
  return new Tasks(target) as unknown as BackgroundTasks;
}

Injectable({ scope: Scope.REQUEST })(BackgroundTasks);
// If it is listed as a provider, Nest would make lists that nobody runs. As it finds no such dependency, it stops at boot, and says this.
Inject('the list of a request: import BackgroundTasksModule, and leave BackgroundTasks out of `providers`')(BackgroundTasks, undefined, 0);

const HandlerParameter = createParamDecorator((_: unknown, context: ExecutionContext) => tasksOfContext(context));

function decorateParameter(...decorated: unknown[]): ParameterDecorator {
  if (decorated.length > 0) throw misplaced('has no parentheses', decorated);
  registerCopy();
  return (...where) => {
    const [target, method, index] = where;
    // Where types are not checked, it may be on a property, a method or a class.
    if (typeof index !== 'number') throw misplaced('is no parameter decorator there', where);
    if (method === undefined) return Inject(BackgroundTasks)(target, method, index);
    HandlerParameter()(target, method, index);
    // A global ValidationPipe with `validateCustomDecorators` validates, and clones, values whose type is a class. It leaves Object alone.
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
