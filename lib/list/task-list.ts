import { type InspectOptions, inspect } from 'node:util';
import { Logger } from '@nestjs/common';
import { Task } from '../task/task.js';
import { invalid } from '../task/validation.js';

/** What a `BackgroundTasks` is. The package itself extends this one: a subclass of the export takes microseconds to make. */
export class TaskList {
  /** Makes the tasks of all lists. A room above this one, which knows every kind of them, says how. */
  static makeTask: (first: unknown, rest: unknown[]) => Task;

  /** The handlers at work in this process. */
  static handlersAtWork = 0;
  static #warned = false;

  readonly #tasks: Task[];
  #next = 0;

  constructor(tasks: readonly Task[] = []) {
    if (!Array.isArray(tasks) || !tasks.every((task) => task instanceof Task)) {
      throw invalid('INVALID_TASK', 'the tasks of a list made by hand', 'an array of BackgroundTask, or nothing', tasks);
    }
    this.#tasks = [...tasks];
  }

  get tasks(): readonly Task[] {
    return [...this.#tasks];
  }

  addTask(first: unknown, ...rest: unknown[]): Task {
    const task = TaskList.makeTask(first, rest);
    this.add(task);
    return task;
  }

  async run(): Promise<void> {
    const errors: unknown[] = [];
    while (this.#next < this.#tasks.length) {
      const task = this.#tasks[this.#next++]!;
      if (task.state === 'cancelled') continue;
      try {
        await task.run();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 1) throw new AggregateError(errors, `${errors.length} background tasks failed`);
    if (errors.length === 1) throw errors[0];
  }

  toJSON(): readonly Task[] {
    return this.tasks;
  }

  /** What `console.log` makes of it. */
  [inspect.custom](_depth: number, options: InspectOptions): string {
    return `BackgroundTasks ${inspect(this.tasks, options)}`;
  }

  /** Adds a task for code that has the list, or for code that has followed its request here. */
  add(task: Task, _isFollowing?: boolean): void {
    if (TaskList.handlersAtWork > 0) TaskList.#warn();
    this.#tasks.push(task);
  }

  static #warn(): void {
    if (this.#warned) return;
    this.#warned = true;
    new Logger('BackgroundTasks').warn(
      'A list made with `new BackgroundTasks()` got a task while a request is handled, and runs only if `run()` is called: inject the list of ' +
        'the request, or take it as a parameter of the handler, `@BackgroundTasks() tasks: BackgroundTasks`',
    );
  }
}
