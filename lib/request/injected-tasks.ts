import type { BackgroundTask } from '../background-task.js';
import { BackgroundTasksError } from '../background-tasks.errors.js';
import type { BackgroundTasksRunner } from '../background-tasks.runner.js';
import { BackgroundTasks } from '../background-tasks.js';
import { TrackedTasks } from '../tracked-tasks.js';
import { type GraphqlContext, requestOfOperation } from './graphql.js';
import { rawRequest, responseOf } from './http.js';
import { MessageTasks } from './message-tasks.js';
import { RequestTasks } from './request-tasks.js';
import * as rpc from './rpc.js';
import { lists } from './tasks-of.js';

/** A list that its handlers open, and settle the outcome of. */
export type HandledTasks = RequestTasks | MessageTasks;

/** The list of a request, by the type of the execution context. */
export function listOf(request: object, type: string, runner: BackgroundTasksRunner): HandledTasks {
  return type === 'http' || responseOf(request) ? RequestTasks.of(request, runner) : MessageTasks.of(request, runner);
}

/** What is injected as `BackgroundTasks` for what Nest injects as REQUEST, which is undefined where something was resolved outside any. */
export function injectedTasks(injected: object | undefined, runner: BackgroundTasksRunner): BackgroundTasks {
  if (!injected) return TrackedTasks.outsideRequest(runner);
  const raw = rawRequest(injected);
  if (responseOf(raw)) return RequestTasks.of(raw, runner);
  const message = rpc.messageOfHost(injected);
  if (message) return MessageTasks.of(message, runner);
  const request = requestOfOperation(injected as GraphqlContext);
  if (responseOf(request) || lists.has(request)) return listOf(request, 'graphql', runner);
  return new UnsupportedTasks(injected);
}

/** What is injected where there is nothing to wait for: to inject it is no error, to add a task to it is. */
class UnsupportedTasks extends BackgroundTasks {
  readonly #injected: object;

  constructor(injected: object) {
    super();
    this.#injected = injected;
  }

  override add(task: BackgroundTask): void {
    throw new BackgroundTasksError(
      'UNSUPPORTED_CONTEXT',
      `Background task "${task.name}" was refused: expected a request over HTTP or GraphQL, or a message of a microservice, got ` +
        `${describe(this.#injected)}. Take \`@BackgroundTasks()\` as a parameter of the handler, or use \`forRoot({ scope: Scope.DEFAULT })\``,
    );
  }
}

function describe(request: object): string {
  const name = request.constructor?.name;
  const isClient = 'on' in request && ('handshake' in request || 'readyState' in request);
  return isClient
    ? `the client of a gateway (context "ws"), which is one for all of its messages`
    : `an object of type ${name ?? 'Object'}`;
}
