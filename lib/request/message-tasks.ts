import { setImmediate } from 'node:timers';
import { DeliverableTasks } from '../engine/deliverable-tasks.js';
import type { Execution } from '../runner/execution.js';
import { BackgroundTasksError, RefusedError, taskCalled } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { BIND_INTERCEPTOR, lists } from './tasks-of.js';

/**
 * The list of one message of a microservice or a gateway, or of one GraphQL subscription: there is no response to wait for, but only
 * handlers to end. The transport has the reply by then, and the runner starts nothing in the middle of the current event.
 */
export class MessageTasks extends DeliverableTasks {
  declare protected readonly runner: Execution;
  #handlersAtWork = 0;
  #opened = false;
  #failed = false;

  /** The list of a message, by the object that stands for it: one and the same for everybody who asks. */
  static of(message: object, runner: Execution): MessageTasks {
    const known = lists.get(message);
    if (known instanceof MessageTasks) return known;
    const tasks = new MessageTasks(runner);
    lists.set(message, tasks);
    return tasks;
  }

  handlerStarted(_endless?: boolean): void {
    this.#opened = true;
    this.#handlersAtWork += 1;
    this.runner.handlerStarted();
  }

  handlerSettled(): void {
    this.#handlersAtWork -= 1;
    // A handler that follows on another, such as the resolver of a field, has started by then.
    if (this.#handlersAtWork === 0) setImmediate(this.#flushIfOver);
    this.runner.handlerSettled();
  }

  /** Nest reads it before the message is over. */
  streams(): void {}

  /** Makes the outcome a failure. */
  fail(error?: unknown): void {
    this.#failed = true;
    if (error instanceof RefusedError) this.reportRefusal(error);
  }

  override add(task: Task, isFollowing?: boolean): void {
    if (!this.#opened) {
      // Nothing would tell when the message is over: the task would never run.
      throw new BackgroundTasksError(
        'UNSUPPORTED_CONTEXT',
        `${taskCalled(task.name)} was refused: BackgroundTasksInterceptor has not seen its message. Guards run before it: add the task ` +
          `in the handler, or in an interceptor; ${BIND_INTERCEPTOR}`,
      );
    }
    if (this.done) this.addLate(task, isFollowing);
    else super.add(task);
  }

  readonly #flushIfOver = (): void => {
    if (this.#handlersAtWork === 0) this.flush(this.#failed ? 'failure' : 'success');
  };
}
