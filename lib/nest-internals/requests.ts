import type { IncomingMessage, ServerResponse } from 'node:http';

/** A request of Express (with `res`), of Fastify (with `raw`), or of Node. */
export interface HttpRequest {
  readonly raw?: IncomingMessage;
  readonly res?: ServerResponse;
}

/** A response of Express or Node, or of Fastify (with `raw`). */
export type HttpResponse = ServerResponse | { readonly raw: ServerResponse };

/**
 * A map by request, stored in a property of the request itself. A `WeakMap` with an entry for every request slows down each minor garbage
 * collection: it took a fifth of the processor time of a Fastify route without tasks.
 */
export class PerRequest<Value> {
  readonly #key: symbol;

  constructor(name: string) {
    this.#key = Symbol(name);
  }

  get(request: object): Value | undefined {
    return (request as Record<symbol, Value | undefined>)[this.#key];
  }

  set(request: object, value: Value): void {
    (request as Record<symbol, Value>)[this.#key] = value;
  }
}

const responses = new PerRequest<ServerResponse>('response');

/** Node's request, which Express, Fastify and Fastify's middleware share. */
export function rawRequest(request: HttpRequest): object {
  // Only Fastify's own request is not a stream. On any other, `raw` is a property that the application has set; on Fastify's, `res` is.
  return 'pipe' in request ? request : (request.raw ?? request);
}

export function rawResponse(response: HttpResponse): ServerResponse {
  return 'raw' in response ? response.raw : response;
}

/** The response to a raw request. */
export function responseOf(request: HttpRequest | IncomingMessage): ServerResponse | undefined {
  return ('res' in request ? request.res : undefined) ?? responses.get(request);
}

/** Makes `responseOf` find the response of a request that has no reference to it. */
export function linkResponse(request: object, response: ServerResponse): void {
  responses.set(request, response);
}
