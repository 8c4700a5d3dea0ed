import { Inject, Injectable, Scope, createParamDecorator } from '@nestjs/common';
import type { ExecutionContext } from '@nestjs/common';
import { type InspectOptions, inspect } from 'node:util';
import { type BackgroundTask, Task } from './background-task.js';
import { invalid } from './background-tasks.errors.js';
import type { BackgroundTaskOptions } from './background-tasks.options.js';
import { classAndDecorator } from './class-and-decorator.js';
import { tasksOf } from './request/tasks-of.js';

/** What `BackgroundTasks` makes. The package itself extends this one: a subclass of the export takes microseconds to make. */
export class TaskList {
  readonly #tasks: BackgroundTask[];
  #next = 0;

  /**
   * A list made by hand, for a unit test. Inject the list of a request instead.
   *
   * @throws BackgroundTasksError `INVALID_TASK` for what is not an array of tasks.
   */
  constructor(tasks: readonly BackgroundTask[] = []) {
    if (!Array.isArray(tasks) || !tasks.every((task) => task instanceof Task)) {
      throw invalid('INVALID_TASK', 'the tasks of a list made by hand', 'an array of BackgroundTask, or nothing', tasks);
    }
    this.#tasks = [...tasks];
  }

  /** The tasks added so far. Those of a request leave its list when they start. */
  get tasks(): readonly BackgroundTask[] {
    return [...this.#tasks];
  }

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
  addTask(...task: unknown[]): void {
    // The overloads are those of the constructor.
    this.add(new Task(...(task as [unknown])));
  }

  /**
   * Runs the tasks of a list made by hand, in order, each once, whatever its `runOn`; tasks that they add run, too.
   *
   * @throws The error of the task that failed; an `AggregateError` if several did.
   */
  async run(): Promise<void> {
    const errors: unknown[] = [];
    while (this.#next < this.#tasks.length) {
      try {
        await this.#tasks[this.#next++]!.run();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 1) throw new AggregateError(errors, `${errors.length} background tasks failed`);
    if (errors.length === 1) throw errors[0];
  }

  /** What `JSON.stringify` makes of the list: its tasks, without their arguments. */
  toJSON(): readonly BackgroundTask[] {
    return this.tasks;
  }

  /** What `console.log` makes of it. @internal */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    return `BackgroundTasks ${inspect(this.tasks, options)}`;
  }

  /** @internal */
  add(task: BackgroundTask): void {
    this.#tasks.push(task);
  }
}

export interface BackgroundTasks extends TaskList {}

export interface BackgroundTasksConstructor {
  readonly prototype: BackgroundTasks;
  new (tasks?: readonly BackgroundTask[]): BackgroundTasks;
  (): ParameterDecorator;
}

/**
 * The tasks that run once the response of the current request is out, as FastAPI's `BackgroundTasks`.
 *
 * Inject it by type into anything that a request makes, or take it as `@BackgroundTasks() tasks: BackgroundTasks` in a handler, which does
 * not make the controller request-scoped: both are the one list of the request.
 */
export const BackgroundTasks: BackgroundTasksConstructor = classAndDecorator(TaskList, 'BackgroundTasks', decorateParameter);

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
