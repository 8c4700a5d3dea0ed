import type { CallHandler, ExecutionContext, NestInterceptor, Type } from '@nestjs/common';
import type { ApplicationConfig, ExternalContextCreator } from '@nestjs/core';
import { isObservable, lastValueFrom } from 'rxjs';

/** The function of a controller's method. */
export interface Handler {
  readonly name: string;
}

const byHand = new WeakMap<Handler, boolean>();

/**
 * True if a handler answers through `@Res()` or `@Next()`, and not by what it returns.
 *
 * @see https://github.com/nestjs/nest/blob/master/packages/core/router/router-execution-context.ts `isResponseHandled`
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

/** True if a handler answers with an event stream, `@Sse()`: it lasts as long as its client, or until the application ends it while it shuts down. */
export function sendsEvents(handler: Handler): boolean {
  return remembered(eventHandlers, handler, () => Reflect.hasMetadata('__sse__', handler));
}

/**
 * True if the result of a handler is sent as it is produced.
 *
 * @see https://github.com/nestjs/nest/blob/master/packages/core/router/router-response-controller.ts `isStreamingBody`
 */
export function isStreaming(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  // There is no `Response` in jsdom, for one.
  return Symbol.asyncIterator in value || (typeof Response === 'function' && value instanceof Response);
}

function remembered(answers: WeakMap<Handler, boolean>, handler: Handler, find: () => boolean): boolean {
  let answer = answers.get(handler);
  if (answer === undefined) answers.set(handler, (answer = find()));
  return answer;
}

/** The name that a handler has in its class. A decorator that replaced the method may have given the function another one. */
function methodOf(handler: Handler, controller: Type): string | symbol {
  for (let prototype: object | null = controller.prototype; prototype; prototype = Reflect.getPrototypeOf(prototype)) {
    const { [handler.name]: sameName, ...others } = Object.getOwnPropertyDescriptors(prototype);
    if (sameName?.value === handler) return handler.name;
    const found = Reflect.ownKeys(others).find((key) => others[key as string]?.value === handler);
    if (found) return found;
  }
  // Instrumentation has wrapped the function, and kept its name.
  return handler.name;
}

type Next = () => Promise<unknown>;

/** The method that Nest runs the interceptors of a handler with: `next` is the handler itself, its pipes included. */
type Intercept = (
  interceptors: readonly unknown[],
  args: unknown[],
  instance: object,
  handler: Handler,
  next: Next,
  type: string,
) => Promise<unknown>;

/** The interceptor of this package, as it is called where the wrapper of `intercept` is installed. */
export interface HandlerHooks extends NestInterceptor {
  /** Does for a handler of HTTP, and the other interceptors, what `intercept` does. */
  aroundInterceptors(args: readonly unknown[], controller: object, handler: Handler, next: Next): Promise<unknown>;
  /** Called around the handler itself, as interceptors around it may give up waiting for it. */
  aroundHandler(type: string, args: readonly unknown[], handler: Handler, next: Next): Promise<unknown>;
}

/**
 * Puts an interceptor in front of the global interceptors of the application. An `APP_INTERCEPTOR` of a library would run inside of them, and
 * they may still fail the request.
 *
 * @see https://github.com/nestjs/nest/blob/master/packages/core/application-config.ts `getGlobalInterceptors`
 * @returns What works less well if Nest returns a copy.
 */
export function addOutermostInterceptor(config: ApplicationConfig, interceptor: NestInterceptor): string | undefined {
  config.getGlobalInterceptors().unshift(interceptor);
  if (config.getGlobalInterceptors()[0] === interceptor) return undefined;
  config.useGlobalInterceptors(interceptor);
  return 'a request that one of your global interceptors fails after its handler counts as a success';
}

const wrapped = new WeakSet<object>();

/**
 * Runs the interceptor of this package without the machinery that Nest runs interceptors with, two promises, an `AsyncResource` and four
 * Observables, which is most of its cost; and tells it when the handler itself has ended, which no interceptor sees: one inside of it
 * may have given up, as `timeout()` of rxjs does.
 *
 * The router, the microservices and the gateways have consumers of the same class as the `interceptorsConsumer` of `ExternalContextCreator`.
 * Their method `intercept` gets the interceptors of the handler, ours first, and calls them. If there are none, it calls the handler. The
 * interceptor belongs to one application, and tells the applications of one process apart.
 *
 * If Nest has it otherwise, nothing is replaced, and ours is an interceptor like any other. The same applies if ours is not the first one, for
 * example because of a second copy of this package.
 *
 * @see https://github.com/nestjs/nest/blob/master/packages/core/interceptors/interceptors-consumer.ts
 * @returns What works less well, if Nest has it otherwise.
 */
export async function runWithoutObservables(
  creator: ExternalContextCreator,
  isOurs: (interceptor: unknown) => interceptor is HandlerHooks,
): Promise<string | undefined> {
  const { interceptorsConsumer } = creator as unknown as { interceptorsConsumer?: object };
  const prototype: { intercept?: Intercept } | null = interceptorsConsumer ? Reflect.getPrototypeOf(interceptorsConsumer) : null;
  if (prototype && wrapped.has(prototype)) return undefined;
  const intercept = prototype?.intercept;
  if (!prototype || typeof intercept !== 'function' || !(await isAsExpected(interceptorsConsumer, intercept))) return LESS;
  const isReplaced = Reflect.set(prototype, 'intercept', function (this: unknown, interceptors, args, instance, handler, next, type) {
    const ours = Array.isArray(interceptors) ? interceptors.find(isOurs) : undefined;
    if (!ours) return intercept.call(this, interceptors, args, instance, handler, next, type);
    const hasOthers = interceptors.length > 1;
    const observed: Next = () => ours.aroundHandler(type, args, handler, next);
    if (ours !== interceptors[0] || type !== 'http' || sendsEvents(handler)) {
      // Its own function counts a resolver, and nothing inside of ours can give it up.
      const isCounted = type === 'graphql' && !hasOthers;
      return intercept.call(this, interceptors, args, instance, handler, isCounted ? next : observed, type);
    }
    if (!hasOthers) return ours.aroundInterceptors(args, instance, handler, next);
    const others = interceptors.slice(1);
    return ours.aroundInterceptors(args, instance, handler, () => intercept.call(this, others, args, instance, handler, observed, type));
  } satisfies Intercept);
  if (!isReplaced) return LESS;
  wrapped.add(prototype);
  return undefined;
}

const LESS = 'routes cost more, and a handler that an interceptor has given up, such as with `timeout()`, is not waited for';

/** Calls `intercept` once with parts of our own, and looks whether each arrives where it should. */
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

/** Calls a resolver with its guards and filters, and all that it does. */
type AroundResolver = (args: readonly unknown[], resolve: () => Promise<unknown>) => Promise<unknown>;

type Create = (...parameters: unknown[]) => (...args: unknown[]) => Promise<unknown>;

/** The parameters of `create` before its `contextType`: one of them is the name of the method. */
const PARAMETERS_OF_THE_HANDLER = 4;

/**
 * Calls every resolver through a function: interceptors see neither guards that deny nor, unless told to, the resolvers of fields.
 *
 * @see https://github.com/nestjs/nest/blob/master/packages/core/helpers/external-context-creator.ts `create`
 * @returns What works less well, if Nest has no such method or does not let it be replaced.
 */
export function aroundResolvers(creator: ExternalContextCreator, around: AroundResolver): string | undefined {
  const { create } = creator as unknown as { create?: Create };
  if (typeof create !== 'function') return LESS_OF_RESOLVERS;
  const replaced: Create = (...parameters) => {
    const resolver = create.apply(creator, parameters);
    if (!parameters.includes('graphql', PARAMETERS_OF_THE_HANDLER)) return resolver;
    return (...args) => around(args, () => resolver(...args));
  };
  return Reflect.set(creator, 'create', replaced) ? undefined : LESS_OF_RESOLVERS;
}

const LESS_OF_RESOLVERS = 'resolvers of GraphQL fields, and guards of resolvers, do not count towards the outcome of their request';
