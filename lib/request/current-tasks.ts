import { AsyncLocalStorage } from 'node:async_hooks';
import { DeliverableTasks } from '../engine/deliverable-tasks.js';
import { TaskList } from '../list/task-list.js';
import type { TrackedTasks } from '../list/tracked-tasks.js';
import type { Execution } from '../runner/execution.js';
import type { Task } from '../task/task.js';

/** What is injected under `Scope.DEFAULT`: a singleton that hands each task on to the list of the request which the calling code belongs to. */
export class CurrentTasks extends TaskList {
  readonly #runner: Execution;
  /** The one store of this package. It is entered under `Scope.DEFAULT` alone: on Node 20 that costs every promise of the process. */
  readonly #current = new AsyncLocalStorage<TrackedTasks>();

  constructor(runner: Execution) {
    super();
    this.#runner = runner;
    runner.holdCurrentTask();
    runner.enter = (tasks, func) => this.within(tasks, func);
  }

  /** Calls the function, and all that it sets off, as part of the request with this list. */
  within<Result>(tasks: TrackedTasks, func: () => Result): Result {
    return this.#current.getStore() === tasks ? func() : this.#current.run(tasks, func);
  }

  override get tasks(): readonly Task[] {
    return this.#list.tasks;
  }

  override run(): Promise<void> {
    return this.#list.run();
  }

  override add(task: Task): void {
    this.#list.add(task, true);
  }

  /** Outside any request, each task has a list of its own: one that takes its time must not hold up the others. */
  get #list(): TrackedTasks {
    return this.#current.getStore() ?? DeliverableTasks.outsideRequest(this.#runner);
  }
}
