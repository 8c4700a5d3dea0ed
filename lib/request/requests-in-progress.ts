import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Execution } from '../runner/execution.js';
import { RequestTasks } from './request-tasks.js';

/** Where Node keeps the response that is to go out next: undocumented. Where it is not, requests count from their handlers on. */
type ServerSocket = Socket & { readonly _httpMessage?: ServerResponse<Request> | null };

/** Node says of a request whether its connection was handed over, to WebSocket say: Fastify's plugin for that gives it a response that never ends. */
type Request = IncomingMessage & { readonly upgrade?: boolean };

/**
 * Has the shutdown wait for the requests that have not reached a handler yet: their bodies may still be arriving, or a guard take its time.
 *
 * Nothing is done for a request before that: a listener on each response costs a Fastify route a tenth. The connections are kept instead, and
 * what is going on there is looked up when the shutdown begins. Not seen are the requests behind the first one of a connection, by pipelining
 * or over HTTP/2, and those that come through another server or `inject()`: they count from their handlers on.
 */
export function awaitRequests(server: Server, runner: Execution): void {
  const sockets = new Set<ServerSocket>();
  const keep = (socket: ServerSocket): void => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  };
  server.on('connection', keep).on('secureConnection', keep);
  const awaitHandler = (response: ServerResponse): void => RequestTasks.of(response.req, runner).awaitHandler(response);
  runner.closing.addEventListener('abort', () => {
    for (const { _httpMessage: response } of sockets) if (response && !response.req.upgrade) awaitHandler(response);
    server.prependListener('request', (_, response) => awaitHandler(response));
  });
}
