import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type HttpServer, StreamableFile } from '@nestjs/common';
import { type HttpRequest, type HttpResponse, linkResponse, rawRequest, rawResponse, responseOf } from './requests.js';

/** The hook of a Fastify instance that runs before any other code of a request. */
interface FastifyInstance {
  addHook(name: 'onRequest', hook: (request: { raw: object }, reply: { raw: ServerResponse }, done: () => void) => void): void;
}

/** Calls a function as part of a request. */
type RunInRequest = (request: object, func: () => void) => void;

/** Lets `responseOf` find the response of a request on Fastify. */
export function linkResponses(adapter: HttpServer): void {
  if (adapter.getType() !== 'fastify') return;
  const fastify: FastifyInstance = adapter.getInstance();
  fastify.addHook('onRequest', (request, reply, done) => {
    linkResponse(request.raw, reply.raw);
    done();
  });
  // Nest's middleware runs in an earlier hook, and may answer there.
  aroundMiddleware(adapter, (request, response, callback) => {
    linkResponse(request, response);
    callback();
  });
}

/** Runs all the code of a request as part of it, from the first middleware on. */
export function aroundRequests(adapter: HttpServer, runInRequest: RunInRequest): void {
  if (adapter.getType() !== 'fastify') {
    adapter.use((request: object, _: unknown, next: () => void) => runInRequest(request, next));
    return;
  }
  // Fastify keeps the context while it reads a body.
  const fastify: FastifyInstance = adapter.getInstance();
  fastify.addHook('onRequest', ({ raw }, _, done) => runInRequest(raw, done));
  aroundMiddleware(adapter, (request, _, callback) => runInRequest(request, callback));
}

/**
 * Nest runs middleware on Fastify through `@fastify/middie`, which knows raw requests and responses only.
 *
 * @see https://github.com/nestjs/nest/blob/master/packages/platform-fastify/adapters/fastify-adapter.ts `createMiddlewareFactory`
 */
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

type Send = (response: HttpResponse, ...rest: unknown[]) => unknown;
type ErrorHandler = (error: unknown, request: HttpRequest, response: unknown, next: unknown) => unknown;

interface AdapterMethods extends Record<'reply' | 'render' | 'redirect', Send | undefined> {
  setErrorHandler?: (handler: ErrorHandler, prefix?: string) => unknown;
}

/** Told of the exceptions that no interceptor sees. */
interface FailureObserver {
  /** A value that the interceptors let through could not be sent. */
  sendFailed(request: object): void;
  /** An exception has reached the error handler of the platform. A filter may answer it with 200 all the same. */
  requestFailed(request: object, error: unknown): void;
}

/**
 * Tells of exceptions that no interceptor sees. It replaces the methods that Nest's router answers with, and the error handler.
 *
 * @see https://github.com/nestjs/nest/blob/master/packages/core/router/router-response-controller.ts
 */
export function observeFailures(adapter: HttpServer, observer: FailureObserver): void {
  const methods = adapter as unknown as AdapterMethods;
  for (const name of ['reply', 'render', 'redirect'] as const) {
    const send = methods[name]?.bind(adapter);
    if (!send) continue;
    methods[name] = (response, ...rest) => {
      const failed = (error: unknown): never => {
        observer.sendFailed(rawResponse(response).req);
        throw error;
      };
      try {
        observeStream(rest[0], () => observer.sendFailed(rawResponse(response).req));
        const sent = send(response, ...rest);
        // An adapter may be asynchronous.
        return sent instanceof Promise ? sent.catch(failed) : sent;
      } catch (error) {
        return failed(error);
      }
    };
  }
  const setErrorHandler = methods.setErrorHandler?.bind(adapter);
  if (!setErrorHandler) return;
  methods.setErrorHandler = (handler, prefix) =>
    // Express knows an error handler by its four parameters.
    setErrorHandler((error, request, response, next) => {
      observer.requestFailed(rawRequest(request), error);
      return handler(error, request, response, next);
    }, prefix);
}

/** A `StreamableFile` answers for its stream, with an error or by cutting the response off. */
function observeStream(body: unknown, failed: () => void): void {
  if (!(body instanceof StreamableFile)) return;
  const stream = body.getStream();
  if (stream.errored) failed();
  else stream.once('error', failed);
}

/** Node says of a request whether its connection was handed over, to WebSocket say: Fastify's plugin for that gives it a response that never ends. */
type UpgradableRequest = IncomingMessage & { readonly upgrade?: boolean };

/** Node keeps the response that goes out next in `_httpMessage`: undocumented. Without it, requests count from their handlers on. */
type ServerSocket = Socket & { readonly _httpMessage?: ServerResponse<UpgradableRequest> | null };

/**
 * Keeps the connections of a server, so that the requests in flight can be looked up when a shutdown begins, and those whose client has gone
 * are known. Nothing is done for a request before that: a listener on each response costs a Fastify route a tenth.
 *
 * Only requests that the platform has got are seen: engine.io, for one, takes its own before that. Not seen are requests behind the first one of
 * a connection, by pipelining or over HTTP/2, and those that come through another server or `inject()`.
 *
 * @see https://github.com/nodejs/node/blob/main/lib/_http_server.js `assignSocket`
 */
export class Connections {
  readonly #sockets = new Set<ServerSocket>();
  readonly #server: Server;

  /** @param clientGone called with the request in flight on a connection that closes */
  constructor(server: Server, clientGone: (request: object) => void) {
    this.#server = server;
    const keep = (socket: ServerSocket): void => {
      this.#sockets.add(socket);
      socket.once('close', () => {
        this.#sockets.delete(socket);
        if (socket._httpMessage) clientGone(socket._httpMessage.req);
      });
    };
    server.on('connection', keep).on('secureConnection', keep);
  }

  /** Calls the listener with the response of each request in flight, and from now on with that of each new one. */
  forEachResponse(listener: (response: ServerResponse) => void): void {
    const ofPlatform = (request: UpgradableRequest, response: ServerResponse): void => {
      if (!request.upgrade && responseOf(request)) listener(response);
    };
    for (const { _httpMessage: response } of this.#sockets) if (response) ofPlatform(response.req, response);
    // Last: the platform has its request by then.
    this.#server.on('request', ofPlatform);
  }
}
