import { type HttpServer, StreamableFile } from '@nestjs/common';
import { type HttpRequest, type HttpResponse, rawRequest, rawResponse } from './http.js';
import { RequestTasks } from './request-tasks.js';

type Send = (response: HttpResponse, ...rest: unknown[]) => unknown;
type OnError = (error: unknown, request: HttpRequest, response: unknown, next: unknown) => unknown;

/**
 * Tells the list of a request of the exceptions that no interceptor sees: those of sending what the interceptors let through, and those that
 * reach the error handler of the platform, also if a filter answers them with 200.
 */
export function observeFailures(adapter: HttpServer): void {
  const methods = adapter as unknown as Record<'reply' | 'render' | 'redirect', Send> & {
    setErrorHandler(onError: OnError, prefix?: string): unknown;
  };
  for (const name of ['reply', 'render', 'redirect'] as const) {
    const send = methods[name].bind(adapter);
    methods[name] = (response, ...rest) => {
      try {
        observeStream(response, rest[0]);
        return send(response, ...rest);
      } catch (error) {
        tasksOfResponse(response)?.failSending();
        throw error;
      }
    };
  }
  const setErrorHandler = methods.setErrorHandler.bind(adapter);
  methods.setErrorHandler = (onError, prefix) =>
    // Express knows an error handler by its four parameters.
    setErrorHandler((error, request, response, next) => {
      RequestTasks.latest(rawRequest(request))?.fail(error);
      return onError(error, request, response, next);
    }, prefix);
}

/** A `StreamableFile` answers for its stream, with an error or by cutting the response off. */
function observeStream(response: HttpResponse, body: unknown): void {
  const tasks = body instanceof StreamableFile ? tasksOfResponse(response) : undefined;
  if (!tasks) return;
  const stream = (body as StreamableFile).getStream();
  if (stream.errored) tasks.failSending();
  else stream.once('error', () => tasks.failSending());
}

function tasksOfResponse(response: HttpResponse): RequestTasks | undefined {
  return RequestTasks.latest(rawResponse(response).req);
}
