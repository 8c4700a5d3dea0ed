import type { Type } from '@nestjs/common';

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
