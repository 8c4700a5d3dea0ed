import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type HttpServer, StreamableFile } from '@nestjs/common';
import { type HttpRequest, type HttpResponse, linkResponse, rawRequest, rawResponse, responseOf } from './requests.js';

/** Fastify's hook that runs before any other code of a request. */
interface FastifyInstance {
  addHook(name: 'onRequest', hook: (request: { raw: object }, reply: { raw: ServerResponse }, done: () => void) => void): void;
}

/** Calls a function as part of a request. */
type RunInRequest = (request: object, func: () => void) => void;

/** Makes `responseOf` find the response of a request on Fastify. */
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

/** Runs all code of a request in `runInRequest`, from the first middleware on. */
export function aroundRequests(adapter: HttpServer, runInRequest: RunInRequest): void {
  if (adapter.getType() !== 'fastify') {
    adapter.use((request: object, _: unknown, next: () => void) => runInRequest(request, next));
    return;
  }
  // Fastify preserves the async context while it reads a body.
  const fastify: FastifyInstance = adapter.getInstance();
  fastify.addHook('onRequest', ({ raw }, _, done) => runInRequest(raw, done));
  aroundMiddleware(adapter, (request, _, callback) => runInRequest(request, callback));
}

/**
 * Nest runs middleware on Fastify through `@fastify/middie`, which passes raw requests and responses.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/platform-fastify/adapters/fastify-adapter.ts `createMiddlewareFactory`
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

/** Called for exceptions that no interceptor sees. */
interface FailureObserver {
  /** The value that the interceptors returned could not be sent. */
  sendFailed(request: object): void;
  /** An exception has reached the error handler of the platform. A filter may still answer 200. */
  requestFailed(request: object, error: unknown): void;
}

/**
 * Observes exceptions that no interceptor sees. Replaces the methods through which Nest's router answers, and the error handler.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/router/router-response-controller.ts
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
    // Express recognises an error handler by its four parameters.
    setErrorHandler((error, request, response, next) => {
      observer.requestFailed(rawRequest(request), error);
      return handler(error, request, response, next);
    }, prefix);
}

/** A `StreamableFile` handles the errors of its stream: it answers with an error, or cuts the response off. */
function observeStream(body: unknown, failed: () => void): void {
  if (!(body instanceof StreamableFile)) return;
  const stream = body.getStream();
  if (stream.errored) failed();
  else stream.once('error', failed);
}

/**
 * `upgrade` is true if the connection was handed over, for example to WebSocket. Fastify's plugin creates a response for it that never
 * ends.
 */
type UpgradableRequest = IncomingMessage & { readonly upgrade?: boolean };

/**
 * Node keeps the current response of a connection in `_httpMessage`, undocumented. Without it, requests count only from their handlers on.
 */
type ServerSocket = Socket & { readonly _httpMessage?: ServerResponse<UpgradableRequest> | null };

/**
 * The connections of a server, to look up requests in flight when a shutdown begins, and those whose client has gone. A request costs
 * nothing before that: a listener on each response would cost a Fastify route a tenth of its throughput.
 *
 * It sees only requests that the platform has received; engine.io, for example, handles its own before that. It does not see requests after
 * the first one of a connection (pipelining, HTTP/2), nor requests through another server or `inject()`.
 *
 * @see https://github.com/nodejs/node/blob/v24.21.0/lib/_http_server.js `assignSocket`
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

  /** Calls the listener with the response of every request in flight, and of every new request from now on. */
  forEachResponse(listener: (response: ServerResponse) => void): void {
    const ofPlatform = (request: UpgradableRequest, response: ServerResponse): void => {
      if (!request.upgrade && responseOf(request)) listener(response);
    };
    for (const { _httpMessage: response } of this.#sockets) if (response) ofPlatform(response.req, response);
    // Registered last, so that the platform has received the request by then.
    this.#server.on('request', ofPlatform);
  }
}
