import type { IncomingMessage, ServerResponse } from 'node:http';
import type { HttpServer } from '@nestjs/common';
import { PerRequest } from './per-request.js';

/** A request as Express (`res`) and Fastify (`raw`) hand it out, or as Node does. */
export interface HttpRequest {
  readonly raw?: IncomingMessage;
  readonly res?: ServerResponse;
}

/** A response as Express and Fastify (`raw`) hand it out, or as Node does. */
export type HttpResponse = ServerResponse | { readonly raw: ServerResponse };

/** The hook of a Fastify instance that runs before any other code of the request's. */
interface FastifyInstance {
  addHook(name: 'onRequest', hook: (request: { raw: object }, reply: { raw: ServerResponse }, done: () => void) => void): void;
}

/** Calls a function as part of a request. */
type Enter = (request: object, func: () => void) => void;

const responses = new PerRequest<ServerResponse>('response');

/** What Express, Fastify, and Fastify's middleware all see as the same object. */
export function rawRequest(request: HttpRequest): object {
  // Only Fastify's own is no stream: what is `raw` on another, and what is `res` on Fastify's, the application has put there.
  return 'pipe' in request ? request : (request.raw ?? request);
}

export function rawResponse(response: HttpResponse): ServerResponse {
  return 'raw' in response ? response.raw : response;
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
