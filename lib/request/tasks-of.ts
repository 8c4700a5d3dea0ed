import type { ExecutionContext } from '@nestjs/common';
import { BackgroundTasksError } from '../task/errors.js';
import { graphqlContext, requestOfOperation } from './graphql.js';
import { rawRequest } from './http.js';
import { PerRequest } from './per-request.js';
import * as rpc from './rpc.js';
import * as ws from './ws.js';

/** The list of each request, or what a test put in its place, by the one object that all of its code has in common. */
export const lists = new PerRequest<object>('BackgroundTasks');

/** That object, by the type of an execution context, among its arguments. */
const REQUEST_OF: Record<string, (args: readonly unknown[]) => object | undefined> = {
  http: ([request]) => rawRequest(request as object),
  graphql: (args) => requestOfOperation(graphqlContext(args)),
  rpc: rpc.messageOf,
  ws: ws.messageOf,
};

/** What the list of an execution context is kept by; undefined if the context, or its transport, has no such thing. */
export function requestOf(type: string, args: readonly unknown[]): object | undefined {
  return REQUEST_OF[type]?.(args);
}

/** What to do where Nest leaves global interceptors out. */
export const BIND_INTERCEPTOR =
  'a hybrid application also needs `connectMicroservice(options, { inheritAppConfig: true })`, and a gateway on Nest 11 ' +
  '`@UseInterceptors(BackgroundTasksInterceptor)`';

export const WITHOUT_CONTEXT = 'a message whose transport calls `handler(data)` without a context; let it call `handler(data, context)`';

/** The list of the request that a handler's parameter belongs to. */
export function tasksOf(context: ExecutionContext): object {
  const type = context.getType<string>();
  if (!REQUEST_OF[type]) {
    throw new BackgroundTasksError(
      'UNSUPPORTED_CONTEXT',
      `@BackgroundTasks() works in handlers of type ${Object.keys(REQUEST_OF).join(', ')}, and this one is of type "${type}"`,
    );
  }
  const request = requestOf(type, context.getArgs());
  if (type === 'rpc' && !request) {
    throw new BackgroundTasksError('UNSUPPORTED_CONTEXT', `@BackgroundTasks() needs a context of type "rpc", and got ${WITHOUT_CONTEXT}`);
  }
  const tasks = request && lists.get(request);
  if (!tasks) {
    const whatElse = type === 'http' ? '' : `; ${BIND_INTERCEPTOR}`;
    throw new BackgroundTasksError(
      'MODULE_NOT_IMPORTED',
      `@BackgroundTasks() found no list in this handler of type "${type}": add BackgroundTasksModule to the imports of the root module${whatElse}`,
    );
  }
  return tasks;
}
