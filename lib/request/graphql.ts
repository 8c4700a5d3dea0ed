import type { ExternalContextCreator } from '@nestjs/core';
import { rawRequest, responseOf } from './http.js';

/** What the resolvers of an operation share: Nest puts the HTTP request into it, as `req`. */
export interface GraphqlContext {
  readonly req?: object;
}

/** What GraphQL tells a resolver about the field that it resolves. */
interface ResolveInfo {
  readonly operation: { readonly operation: 'query' | 'mutation' | 'subscription' };
  readonly path: { readonly prev: object | undefined };
}

/** The context among the arguments of a resolver: in front of the info, wherever that is. */
export function graphqlContext(args: readonly unknown[]): GraphqlContext {
  return args[args.findIndex(isResolveInfo) - 1] as GraphqlContext;
}

/** The HTTP request that all the resolvers of a query, or of a batch of them, answer; for an operation that came through a WebSocket, its context. */
export function requestOfOperation(context: GraphqlContext): object {
  const request = context.req && rawRequest(context.req);
  return request && responseOf(request) ? request : context;
}

/** Whether a resolver starts a subscription: what it returns are the events, and they end when the subscription does. */
export function startsSubscription(args: readonly unknown[]): boolean {
  const info = args.find(isResolveInfo);
  return info?.operation.operation === 'subscription' && info.path.prev === undefined;
}

function isResolveInfo(value: unknown): value is ResolveInfo {
  return typeof value === 'object' && value !== null && 'operation' in value && 'path' in value && 'parentType' in value;
}

/** Calls a resolver with its guards and filters, and all that it does. */
type Around = (args: readonly unknown[], resolve: () => Promise<unknown>) => Promise<unknown>;

/** Calls every resolver through a function: interceptors see neither guards that deny nor, unless told to, the resolvers of fields. */
export function aroundResolvers(creator: ExternalContextCreator, around: Around): void {
  const create = creator.create.bind(creator) as (...parameters: unknown[]) => (...args: unknown[]) => Promise<unknown>;
  const CONTEXT_TYPE = 8;
  // The signature of `create` is generic in the handler's, which does not matter here.
  creator.create = ((...parameters: unknown[]) => {
    const resolver = create(...parameters);
    if (parameters[CONTEXT_TYPE] !== 'graphql') return resolver;
    return (...args: unknown[]) => around(args, () => resolver(...args));
  }) as typeof creator.create;
}

export function isAsyncIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

/** The same events, each step of them made through a function; the listener is called when there will be no more. */
export function onceEnded(
  events: AsyncIterable<unknown>,
  within: Within,
  ended: (failure?: { error: unknown }) => void,
): AsyncIterable<unknown> {
  const iterator = events[Symbol.asyncIterator]();
  const step = async (advance: () => Promise<IteratorResult<unknown>> | undefined): Promise<IteratorResult<unknown>> => {
    try {
      const result = (await within(advance)) ?? { done: true, value: undefined };
      if (result.done) ended();
      return result;
    } catch (error) {
      ended({ error });
      throw error;
    }
  };
  const watched: AsyncIterableIterator<unknown> = {
    next: () => step(() => iterator.next()),
    return: () => step(() => iterator.return?.()),
    throw: (error: unknown) => step(() => iterator.throw?.(error)),
    [Symbol.asyncIterator]: () => watched,
  };
  return watched;
}

type Within = <Result>(func: () => Result) => Result;
