import type { ExecutionContext } from '@nestjs/common';
import { BackgroundTasksError } from '../background-tasks.errors.js';
import type { BackgroundTasks } from '../background-tasks.js';
import { rawRequest } from './http.js';
import { PerRequest } from './per-request.js';

/** The list of each request, by its raw request: the one object that Express, Fastify, middleware and handlers have in common. */
export const lists = new PerRequest<BackgroundTasks>('BackgroundTasks');

/** The list of the request that a handler's parameter belongs to. */
export function tasksOf(context: ExecutionContext): BackgroundTasks {
  const type = context.getType<string>();
  if (type !== 'http') {
    throw new BackgroundTasksError('UNSUPPORTED_CONTEXT', `@BackgroundTasks() works in HTTP handlers, and this one is of type "${type}"`);
  }
  const tasks = lists.get(rawRequest(context.switchToHttp().getRequest()));
  if (!tasks) {
    throw new BackgroundTasksError(
      'MODULE_NOT_IMPORTED',
      '@BackgroundTasks() found no list for this request: add BackgroundTasksModule to the imports of the root module',
    );
  }
  return tasks;
}
