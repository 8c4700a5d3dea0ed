import { AsyncLocalStorage } from 'node:async_hooks';
import type { BackgroundTask } from './background-task.js';
import { BackgroundTasks } from './background-tasks.js';
import type { BackgroundTasksRunner } from './background-tasks.runner.js';
import { TrackedTasks } from './tracked-tasks.js';

/** What is injected under `Scope.DEFAULT`: a singleton that hands each task on to the list of the request which the calling code belongs to. */
export class CurrentTasks extends BackgroundTasks {
  readonly #runner: BackgroundTasksRunner;
  /** The one store of this package. It is entered under `Scope.DEFAULT` alone: on Node 20 that costs every promise of the process. */
  readonly #current = new AsyncLocalStorage<TrackedTasks>();

  constructor(runner: BackgroundTasksRunner) {
    super();
    this.#runner = runner;
  }

  /** Calls the function, and all that it sets off, as part of the request with this list. */
  within<Result>(tasks: TrackedTasks, func: () => Result): Result {
    return this.#current.getStore() === tasks ? func() : this.#current.run(tasks, func);
  }

  override get tasks(): readonly BackgroundTask[] {
    return this.#list.tasks;
  }

  override run(): Promise<void> {
    return this.#list.run();
  }

  override add(task: BackgroundTask): void {
    this.#list.add(task);
  }

  /** Outside any request, each task has a list of its own: one that takes its time must not hold up the others. */
  get #list(): TrackedTasks {
    return this.#current.getStore() ?? TrackedTasks.outsideRequest(this.#runner);
  }
}
