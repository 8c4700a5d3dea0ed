import type { ExternalContextCreator } from '@nestjs/core';
import { BackgroundTasksInterceptor } from './background-tasks.interceptor.js';
import { type Handler, sendsEvents } from './handlers.js';

type Next = () => Promise<unknown>;

/** What Nest runs the interceptors of a handler with: `next` is the handler itself, its pipes included. */
type Intercept = (
  interceptors: readonly unknown[],
  args: unknown[],
  instance: object,
  handler: Handler,
  next: Next,
  type: string,
) => Promise<unknown>;

const wrapped = new WeakSet<object>();

/**
 * Runs the interceptor of this package without what Nest runs interceptors with, two promises, an `AsyncResource` and four Observables, which
 * is most of what it costs; and tells it when the handler itself has ended, which no interceptor sees: one inside of it may have given
 * up, as `timeout()` of rxjs does.
 *
 * It stands on this, which is the same in Nest 11 and 12, and documented in neither: `ExternalContextCreator` has an `interceptorsConsumer`. The router,
 * the microservices and the gateways have others, of the same class, whose method `intercept` gets the interceptors of the handler, ours
 * first, and calls them. For no interceptors, it calls the handler.
 *
 * Where Nest has it otherwise, or something has sealed it, nothing is done here: ours is an interceptor like any other, and is called as such.
 * So it is, too, where it is not the first one, as if another copy of this package had been before it; of the end of the handler it is told. It
 * belongs to one application, and is how those of one process are told apart.
 */
export function runWithoutObservables(creator: ExternalContextCreator): void {
  const { interceptorsConsumer } = creator as unknown as { interceptorsConsumer?: object };
  const prototype: { intercept?: Intercept } | null = interceptorsConsumer ? Reflect.getPrototypeOf(interceptorsConsumer) : null;
  const intercept = prototype?.intercept;
  if (!prototype || wrapped.has(prototype) || typeof intercept !== 'function') return;
  wrapped.add(prototype);
  Reflect.set(prototype, 'intercept', function (this: unknown, interceptors, args, instance, handler, next, type) {
    const ours = Array.isArray(interceptors) ? interceptors.find(isOurs) : undefined;
    if (!ours) return intercept.call(this, interceptors, args, instance, handler, next, type);
    if (ours !== interceptors[0] || type !== 'http' || sendsEvents(handler)) {
      return intercept.call(this, interceptors, args, instance, handler, untilEnded(ours, type, args, handler, next), type);
    }
    if (interceptors.length === 1) return ours.aroundInterceptors(args, instance, handler, next);
    const others = interceptors.slice(1);
    const observed = untilEnded(ours, type, args, handler, next);
    return ours.aroundInterceptors(args, instance, handler, () => intercept.call(this, others, args, instance, handler, observed, type));
  } satisfies Intercept);
}

function isOurs(interceptor: unknown): interceptor is BackgroundTasksInterceptor {
  return interceptor instanceof BackgroundTasksInterceptor;
}

function untilEnded(ours: BackgroundTasksInterceptor, type: string, args: readonly unknown[], handler: Handler, next: Next): Next {
  return () => ours.aroundHandler(type, args, next, sendsEvents(handler));
}
