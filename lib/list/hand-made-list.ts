import { Task } from '../task/task.js';
import { invalid } from '../task/validation.js';

/** A list made by hand with `new BackgroundTasks()`. Its tasks run when `run()` is called. */
export class HandMadeList {
  readonly #tasks: Task[];
  #next = 0;

  constructor(tasks: readonly Task[] = []) {
    if (!Array.isArray(tasks) || !tasks.every((task) => Task.isTask(task))) {
      throw invalid('BACKGROUND_TASK_INVALID_TASK', 'the tasks of a list made by hand', 'an array of BackgroundTask, or nothing', tasks);
    }
    this.#tasks = [...tasks];
  }

  get tasks(): readonly Task[] {
    return [...this.#tasks];
  }

  add(task: Task): void {
    this.#tasks.push(task);
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
}
