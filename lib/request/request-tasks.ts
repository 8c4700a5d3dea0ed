import type { BackgroundTask } from '../background-task.js';
import { BackgroundTasksError } from '../background-tasks.errors.js';
import type { BackgroundTasksRunner } from '../background-tasks.runner.js';
import { TrackedTasks } from '../tracked-tasks.js';
import { onceOver, rawRequest, responseOf } from './http.js';
import { lists } from './tasks-of.js';

/** The list of one request: flushed once its response is over and none of its handlers is at work. */
export class RequestTasks extends TrackedTasks {
  readonly #request: object;
  #watching = false;
  #over = false;
  #handlers = 0;
  #handled = false;
  #failed = false;

  private constructor(runner: BackgroundTasksRunner, request: object) {
    super(runner);
    this.#request = request;
  }

  /** The list of a raw request: one and the same for everybody who asks. */
  static of(request: object, runner: BackgroundTasksRunner): RequestTasks {
    const known = lists.get(request);
    if (known instanceof RequestTasks) return known;
    const tasks = new RequestTasks(runner, request);
    lists.set(request, tasks);
    return tasks;
  }

  handlerStarted(): void {
    this.#handlers += 1;
  }

  handlerSettled(how: 'succeeded' | 'failed'): void {
    this.#handlers -= 1;
    this.#handled = true;
    if (how === 'failed') this.#failed = true;
    this.#flushIfOver();
  }

  protected override add(task: BackgroundTask): void {
    this.#watchResponse();
    const late = this.done;
    super.add(task);
    if (late) this.runner.reporter.addedLate(task);
  }

  /** Listens for the end of the response from the first task on, so that a request without tasks pays for no listener. */
  #watchResponse(): void {
    if (this.#watching) return;
    const response = responseOf(this.#request);
    if (!response) {
      throw new BackgroundTasksError('UNSUPPORTED_CONTEXT', 'This request has no response that tasks could wait for: it did not come in over HTTP');
    }
    this.#watching = true;
    onceOver(response, () => {
      this.#over = true;
      // Neither a guard that denies nor middleware that answers reaches the interceptor: then the status tells.
      if (!this.#handled && this.#handlers === 0 && response.statusCode >= 400) this.#failed = true;
      this.#flushIfOver();
    });
  }

  #flushIfOver(): void {
    if (this.#over && this.#handlers === 0) this.flush(this.#failed ? 'failure' : 'success');
  }
}

/** What is injected as `BackgroundTasks`, for the value of Nest's `REQUEST`. */
export function tasksOfInjected(request: object | undefined, runner: BackgroundTasksRunner): TrackedTasks {
  if (request) return RequestTasks.of(rawRequest(request), runner);
  // Resolved by hand, outside any request: there is no response to wait for.
  const tasks = new TrackedTasks(runner);
  tasks.flush('success');
  return tasks;
}
