import type { CallHandler, ExecutionContext, NestInterceptor, Type } from '@nestjs/common';
import type { ApplicationConfig, ExternalContextCreator } from '@nestjs/core';
import { isObservable, lastValueFrom } from 'rxjs';

/** A method of a controller. */
export interface Handler {
  readonly name: string;
}

const byHand = new WeakMap<Handler, boolean>();

/**
 * True if a handler answers through `@Res()` or `@Next()`, not through its return value.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/router/router-execution-context.ts `isResponseHandled`
 */
export function answersByHand(handler: Handler, controller: Type): boolean {
  return remembered(byHand, handler, () => {
    const method = methodOf(handler, controller);
    if (Reflect.getMetadata('__responsePassthrough__', controller, method)) return false;
    const parameters: object = Reflect.getMetadata('__routeArguments__', controller, method) ?? {};
    const [response, next] = [1, 2];
    return Object.keys(parameters).some((key) => key.startsWith(`${response}:`) || key.startsWith(`${next}:`));
  });
}

const eventHandlers = new WeakMap<Handler, boolean>();

/** True if a handler answers with an event stream, `@Sse()`, which lasts until its client leaves or the application ends it at shutdown. */
export function sendsEvents(handler: Handler): boolean {
  return remembered(eventHandlers, handler, () => Reflect.hasMetadata('__sse__', handler));
}

/**
 * True if the result of a handler is sent as it is produced.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/router/router-response-controller.ts `isStreamingBody`
 */
export function isStreaming(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  // Some environments, such as jsdom, have no `Response`.
  return Symbol.asyncIterator in value || (typeof Response === 'function' && value instanceof Response);
}

function remembered(answers: WeakMap<Handler, boolean>, handler: Handler, find: () => boolean): boolean {
  let answer = answers.get(handler);
  if (answer === undefined) answers.set(handler, (answer = find()));
  return answer;
}

/** The name of a handler in its class. A decorator that replaced the method may have renamed the function. */
function methodOf(handler: Handler, controller: Type): string | symbol {
  for (let prototype: object | null = controller.prototype; prototype; prototype = Reflect.getPrototypeOf(prototype)) {
    const { [handler.name]: sameName, ...others } = Object.getOwnPropertyDescriptors(prototype);
    if (sameName?.value === handler) return handler.name;
    const found = Reflect.ownKeys(others).find((key) => others[key as string]?.value === handler);
    if (found) return found;
  }
  // Instrumentation has wrapped the function and kept its name.
  return handler.name;
}

type Next = () => Promise<unknown>;

/** Nest's method that runs the interceptors of a handler. `next` is the handler itself, with its pipes. */
type Intercept = (
  interceptors: readonly unknown[],
  args: unknown[],
  instance: object,
  handler: Handler,
  next: Next,
  type: string,
) => Promise<unknown>;

/** The interceptor of this package, as the wrapper of `intercept` calls it. */
export interface HandlerHooks extends NestInterceptor {
  /** Called around an HTTP handler and the other interceptors, in place of `intercept`. */
  aroundInterceptors(args: readonly unknown[], controller: object, handler: Handler, next: Next): Promise<unknown>;
  /** Called around the handler itself, as interceptors around it may stop waiting for it. */
  aroundHandler(type: string, args: readonly unknown[], handler: Handler, next: Next): Promise<unknown>;
}

/**
 * Inserts an interceptor before the global interceptors of the application. The `APP_INTERCEPTOR` of a library would run inside them, and
 * they could still fail the request.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/application-config.ts `getGlobalInterceptors`
 * @returns The resulting limitation if Nest returns a copy; undefined otherwise.
 */
export function addOutermostInterceptor(config: ApplicationConfig, interceptor: NestInterceptor): string | undefined {
  config.getGlobalInterceptors().unshift(interceptor);
  if (config.getGlobalInterceptors()[0] === interceptor) return undefined;
  config.useGlobalInterceptors(interceptor);
  return 'a request that one of your global interceptors fails after its handler counts as a success';
}

const wrapped = new WeakSet<object>();

/**
 * Runs the interceptor of this package without Nest's machinery for interceptors (two promises, an `AsyncResource` and four Observables),
 * which is most of its cost. Also observes the end of the handler itself, which no interceptor sees: an inner one may stop waiting, like
 * `timeout()` of rxjs.
 *
 * The router, the microservices and the gateways have consumers of the same class as the `interceptorsConsumer` of
 * `ExternalContextCreator`. Their method `intercept` gets the interceptors of the handler, ours first, and calls them. If there are none,
 * it calls the handler. The interceptor belongs to one application, which distinguishes the applications of one process.
 *
 * If Nest works differently, nothing is replaced, and our interceptor is one like any other. The same applies if ours is not the first one,
 * for example because of a second copy of this package.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/interceptors/interceptors-consumer.ts
 * @returns The resulting limitation if Nest works differently; undefined otherwise.
 */
export async function runWithoutObservables(
  creator: ExternalContextCreator,
  isOurs: (interceptor: unknown) => interceptor is HandlerHooks,
): Promise<string | undefined> {
  const { interceptorsConsumer } = creator as unknown as { interceptorsConsumer?: object };
  const prototype: { intercept?: Intercept } | null = interceptorsConsumer ? Reflect.getPrototypeOf(interceptorsConsumer) : null;
  if (prototype && wrapped.has(prototype)) return undefined;
  const intercept = prototype?.intercept;
  if (!prototype || typeof intercept !== 'function' || !(await isAsExpected(interceptorsConsumer, intercept))) return LIMITATION;
  const isReplaced = Reflect.set(prototype, 'intercept', function (this: unknown, interceptors, args, instance, handler, next, type) {
    const ours = Array.isArray(interceptors) ? interceptors.find(isOurs) : undefined;
    if (!ours) return intercept.call(this, interceptors, args, instance, handler, next, type);
    const hasOthers = interceptors.length > 1;
    const observed: Next = () => ours.aroundHandler(type, args, handler, next);
    if (ours !== interceptors[0] || type !== 'http' || sendsEvents(handler)) {
      // `aroundResolvers` counts a resolver, and no interceptor inside ours can stop waiting for it.
      const isCounted = type === 'graphql' && !hasOthers;
      return intercept.call(this, interceptors, args, instance, handler, isCounted ? next : observed, type);
    }
    if (!hasOthers) return ours.aroundInterceptors(args, instance, handler, next);
    const others = interceptors.slice(1);
    return ours.aroundInterceptors(args, instance, handler, () => intercept.call(this, others, args, instance, handler, observed, type));
  } satisfies Intercept);
  if (!isReplaced) return LIMITATION;
  wrapped.add(prototype);
  return undefined;
}

const LIMITATION = 'routes cost more, and tasks do not wait for a handler that an interceptor has abandoned, for example with `timeout()`';

/** Calls `intercept` once with test values, and checks that each arrives where it should. */
async function isAsExpected(consumer: unknown, intercept: Intercept): Promise<boolean> {
  class Probe {
    handle(this: void): void {}
  }
  const { handle } = Probe.prototype;
  const args = [{}, {}];
  const value = {};
  let isExpected = false;
  const probe: NestInterceptor = {
    intercept(context: ExecutionContext, next: CallHandler) {
      isExpected =
        context.getArgs()[0] === args[0] &&
        context.getClass() === Probe &&
        context.getHandler() === handle &&
        context.getType() === 'http' &&
        Array.isArray(context.getArgs());
      return next.handle();
    },
  };
  try {
    const result = await intercept.call(consumer, [probe], args, new Probe(), handle, async () => value, 'http');
    return isObservable(result) && (await lastValueFrom(result)) === value && isExpected;
  } catch {
    return false;
  }
}

/** Wraps a resolver, including its guards and filters. */
type AroundResolver = (args: readonly unknown[], resolve: () => Promise<unknown>) => Promise<unknown>;

type Create = (...parameters: unknown[]) => (...args: unknown[]) => Promise<unknown>;

/** The number of parameters of `create` before its `contextType`. One of them is the name of the method, which may be `graphql`, too. */
const PARAMETERS_OF_THE_HANDLER = 4;

/**
 * Calls every resolver through a function. Interceptors do not see guards that deny, nor, by default, the resolvers of fields.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/helpers/external-context-creator.ts `create`
 * @returns The resulting limitation if Nest has no such method, or it cannot be replaced; undefined otherwise.
 */
export function aroundResolvers(creator: ExternalContextCreator, around: AroundResolver): string | undefined {
  const { create } = creator as unknown as { create?: Create };
  if (typeof create !== 'function') return RESOLVER_LIMITATION;
  const replaced: Create = (...parameters) => {
    const resolver = create.apply(creator, parameters);
    if (!parameters.includes('graphql', PARAMETERS_OF_THE_HANDLER)) return resolver;
    return (...args) => around(args, () => resolver(...args));
  };
  return Reflect.set(creator, 'create', replaced) ? undefined : RESOLVER_LIMITATION;
}

const RESOLVER_LIMITATION = 'resolvers of GraphQL fields, and guards of resolvers, do not count towards the outcome of their request';
