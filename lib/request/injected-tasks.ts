import { DeliverableTasks } from '../engine/deliverable-tasks.js';
import { TaskList } from '../list/task-list.js';
import type { Execution } from '../runner/execution.js';
import { BackgroundTasksError, taskCalled } from '../task/errors.js';
import type { Task } from '../task/task.js';
import { type GraphqlContext, requestOfOperation } from './graphql.js';
import { rawRequest, responseOf } from './http.js';
import { MessageTasks } from './message-tasks.js';
import { RequestTasks } from './request-tasks.js';
import * as rpc from './rpc.js';
import { WITHOUT_CONTEXT, lists } from './tasks-of.js';

/** A list that its handlers open, and settle the outcome of. */
export type HandledTasks = RequestTasks | MessageTasks;

/** The list of a request, by the type of the execution context. */
export function listOf(request: object, type: string, runner: Execution): HandledTasks {
  return type === 'http' || responseOf(request) ? RequestTasks.of(request, runner) : MessageTasks.of(request, runner);
}

/** What is injected as `BackgroundTasks` for what Nest injects as REQUEST, which is undefined where something was resolved outside any. */
export function injectedTasks(injected: unknown, runner: Execution): TaskList {
  if (injected === undefined) return DeliverableTasks.outsideRequest(runner);
  // For a listener of `@nestjs/event-emitter`, it is what the event was emitted with.
  if (typeof injected !== 'object' || injected === null) return new UnsupportedTasks(injected);
  const raw = rawRequest(injected);
  if (responseOf(raw)) return RequestTasks.of(raw, runner);
  const message = rpc.messageOfHost(injected);
  if (message) return MessageTasks.of(message, runner);
  const request = requestOfOperation(injected as GraphqlContext);
  if (responseOf(request) || lists.get(request)) return listOf(request, 'graphql', runner);
  return new UnsupportedTasks(injected);
}

/** What is injected where there is nothing to wait for: to inject it is no error, to add a task to it is. */
class UnsupportedTasks extends TaskList {
  readonly #injected: unknown;

  constructor(injected: unknown) {
    super();
    this.#injected = injected;
  }

  override add(task: Task): void {
    throw new BackgroundTasksError(
      'UNSUPPORTED_CONTEXT',
      `${taskCalled(task.name)} was refused: expected the REQUEST that Nest injects to be one of HTTP, of GraphQL, or the message of a ` +
        `microservice, got ${describe(this.#injected)}`,
    );
  }
}

function describe(injected: unknown): string {
  if (typeof injected !== 'object' || injected === null) return `${injected === null ? 'null' : `a ${typeof injected}`}; ${WHAT_TO_DO}`;
  if (rpc.isHost(injected)) return `${WITHOUT_CONTEXT} (type "rpc")`;
  if ('on' in injected && ('handshake' in injected || 'readyState' in injected)) {
    return (
      'the client of a gateway (type "ws"), one for all of its messages; take `@BackgroundTasks()` as a parameter of the handler, or use ' +
      '`forRoot({ scope: Scope.DEFAULT })`'
    );
  }
  return `an object of type "${injected.constructor?.name ?? 'Object'}"; ${WHAT_TO_DO}`;
}

const WHAT_TO_DO =
  'in a listener of events, a command or a job, inject `BackgroundTasksRunner` and add the task in `within()`; in a handler, take ' +
  '`@BackgroundTasks()` as a parameter';
