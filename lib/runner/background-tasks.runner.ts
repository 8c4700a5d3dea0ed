import type { BackgroundTask } from '../task/background-task.js';
import { invalid } from '../task/validation.js';
import type { BackgroundTasks } from './background-tasks.js';
import { Execution } from './execution.js';
import { WorkTasks } from './work-tasks.js';

/** Executes and tracks the tasks of an application. */
export class BackgroundTasksRunner {
  readonly #execution: Execution;

  /** Made by `BackgroundTasksModule`: inject it. @internal */
  constructor(execution = new Execution()) {
    this.#execution = execution;
  }

  /** The tasks that run now. */
  get activeCount(): number {
    return this.#execution.work.active;
  }

  /** The tasks that were added and have not started, those of requests in flight included. */
  get pendingCount(): number {
    return this.#execution.work.pending;
  }

  /** The tasks that were discarded since the application started, because of the outcome of their request or a failed sibling. */
  get discardedCount(): number {
    return this.#execution.discarded;
  }

  /**
   * Calls a function as a unit of work that is no request, such as a cron job, a listener, a consumer or a command, with a list of its own.
   * The tasks of that list start once the function has settled, and an exception is its failure. Under `Scope.DEFAULT` that list is what is
   * injected, too, for as long as the function is at work. `app.close()` waits for it as for a request.
   *
   * @returns What the function returns, once the engine, if any, has the tasks that it would get before a response.
   * @throws What the function throws; a `BackgroundTasksEngineError` if the engine does not take those tasks in time.
   */
  async within<Result>(func: (tasks: BackgroundTasks) => Result | PromiseLike<Result>): Promise<Result> {
    if (typeof func !== 'function') throw invalid('INVALID_TASK', 'what within() calls', 'a function', func);
    const tasks = new WorkTasks(this.#execution);
    this.#execution.handlerStarted();
    try {
      const result = await this.#execution.enter(tasks, () => func(tasks));
      await tasks.flushFirst('success');
      tasks.flush('success');
      return result;
    } catch (error) {
      await tasks.flushFirst('failure')?.catch(() => undefined);
      tasks.flush('failure');
      throw error;
    } finally {
      this.#execution.handlerSettled();
    }
  }

  /**
   * The task of this application that has this id, while it waits or runs. A task for an engine is found until the engine has it, or where it
   * runs in process.
   */
  find(id: string): BackgroundTask | undefined {
    return this.#execution.known.get(id);
  }

  /**
   * Resolves once no task is pending or active, and every `onError` is through. A client that has its answer can call it at once: the tasks
   * of its request count from the moment they were added.
   */
  onIdle(): Promise<void> {
    return this.#execution.work.onIdle();
  }
}
