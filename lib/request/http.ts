import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ExecutionContext, HttpServer } from '@nestjs/common';
import { PerRequest } from './per-request.js';

/** A request as Express (`res`) and Fastify (`raw`) hand it out, or as Node does. */
interface HttpRequest {
  readonly raw?: IncomingMessage;
  readonly res?: ServerResponse;
}

/** The hook of a Fastify instance that runs before any other code of the request's. */
interface FastifyInstance {
  addHook(name: 'onRequest', hook: (request: { raw: object }, reply: { raw: ServerResponse }, done: () => void) => void): void;
}

/** Calls a function as part of a request. */
type Enter = (request: object, func: () => void) => void;

const responses = new PerRequest<ServerResponse>('response');

/** What Express, Fastify, and Fastify's middleware all see as the same object. */
export function rawRequest(request: HttpRequest): object {
  // Only Fastify's own has no response on it: what is `raw` on one of Express, the application has put there.
  return request.res ? request : (request.raw ?? request);
}

/** The response to a raw request. */
export function responseOf(request: HttpRequest): ServerResponse | undefined {
  return request.res ?? responses.get(request);
}

/** Lets `responseOf` find the response of a request on Fastify, where nothing leads from the one to the other. */
export function linkResponses(adapter: HttpServer): void {
  if (adapter.getType() !== 'fastify') return;
  const fastify: FastifyInstance = adapter.getInstance();
  fastify.addHook('onRequest', (request, reply, done) => {
    responses.set(request.raw, reply.raw);
    done();
  });
  // Nest's middleware runs in an earlier hook, and may answer there.
  aroundMiddleware(adapter, (request, response, callback) => {
    responses.set(request, response);
    callback();
  });
}

/** Lets all the code of a request run as part of it, from the first middleware on. */
export function enterRequests(adapter: HttpServer, enter: Enter): void {
  if (adapter.getType() !== 'fastify') {
    adapter.use((request: object, _: unknown, next: () => void) => enter(request, next));
    return;
  }
  // Fastify keeps the context while it reads a body.
  const fastify: FastifyInstance = adapter.getInstance();
  fastify.addHook('onRequest', ({ raw }, _, done) => enter(raw, done));
  aroundMiddleware(adapter, (request, _, callback) => enter(request, callback));
}

function aroundMiddleware(adapter: HttpServer, around: (request: object, response: ServerResponse, callback: () => void) => void): void {
  const createFactory = adapter.createMiddlewareFactory.bind(adapter);
  adapter.createMiddlewareFactory = async (method) => {
    const use = await createFactory(method);
    return (path, callback) =>
      use(path, (request: object, response: ServerResponse, next: () => void) =>
        around(request, response, () => callback(request, response, next)),
      );
  };
}

/** Calls the listener once, when the last byte is out or the connection is gone. */
export function onceOver(response: ServerResponse, listener: () => void): void {
  let over = false;
  const once = (): void => {
    if (over) return;
    over = true;
    listener();
  };
  // 'finish' stays out when the client left, and comes twice under Fastify's `inject()`; 'close' comes always, but later.
  if (response.writableFinished || response.destroyed) return once();
  response.once('finish', once).once('close', once);
  // Without a socket, it waits behind the responses to earlier requests, and if the connection closes, it does not learn of it.
  // Or, over HTTP/2, its stream has closed already.
  if (!response.socket) onceConnectionCloses(response, once);
}

/** What the responses that wait on a connection listen for: one listener for all of them, as a client may pipeline many requests. */
const waiting = new WeakMap<Socket, Set<() => void>>();

function onceConnectionCloses(response: ServerResponse, listener: () => void): void {
  const { socket } = response.req;
  if (socket.destroyed) return listener();
  let listeners = waiting.get(socket);
  if (!listeners) {
    const all = new Set<() => void>();
    socket.once('close', () => all.forEach((call) => call()));
    waiting.set(socket, all);
    listeners = all;
  }
  listeners.add(listener);
  // Its turn has come.
  response.once('socket', () => listeners.delete(listener));
}

/** Calls the listener when the server cuts the response off: a file, or a generator, that failed half-way. A client that leaves does not do it. */
export function onCutOff(response: ServerResponse, listener: () => void): void {
  const destroy = response.destroy.bind(response);
  response.destroy = (error) => {
    // When a connection has closed, Node 24 destroys the responses that waited on it.
    if (!response.req.socket.destroyed) listener();
    return destroy(error);
  };
}

/** Calls the listener when a response whose client has left is ended all the same: there is no event for that any more. */
export function onceAnswered(response: ServerResponse, listener: () => void): void {
  const end = response.end.bind(response) as (...args: unknown[]) => ServerResponse;
  response.end = (...args: unknown[]) => {
    end(...args);
    listener();
    return response;
  };
}

/** Whether a handler answers through `@Res()` or `@Next()`, and not by what it returns: Nest's `isResponseHandled`. */
export function answersByHand(context: ExecutionContext | undefined): boolean {
  // A GraphQL resolver.
  if (!context) return false;
  const handler = context.getHandler().name;
  if (Reflect.getMetadata('__responsePassthrough__', context.getClass(), handler)) return false;
  const parameters: object = Reflect.getMetadata('__routeArguments__', context.getClass(), handler) ?? {};
  const [response, next] = [1, 2];
  return Object.keys(parameters).some((key) => key.startsWith(`${response}:`) || key.startsWith(`${next}:`));
}

const eventHandlers = new WeakMap<object, boolean>();

/** Whether a handler answers with an event stream, `@Sse()`: it lasts as long as its client, or until the application ends it while it shuts down. */
export function sendsEvents(context: ExecutionContext | undefined): boolean {
  if (!context) return false;
  const handler = context.getHandler();
  let sends = eventHandlers.get(handler);
  if (sends === undefined) {
    sends = Reflect.hasMetadata('__sse__', handler);
    eventHandlers.set(handler, sends);
  }
  return sends;
}
