import type { ExternalContextCreator } from '@nestjs/core';
import { BackgroundTasksInterceptor } from './background-tasks.interceptor.js';
import { sendsEvents } from './handlers.js';

/** What Nest runs the interceptors of a handler with: `next` is the handler itself, its pipes included. */
type Intercept = (
  interceptors: readonly unknown[],
  args: unknown[],
  instance: object,
  handler: (...args: never[]) => unknown,
  next: () => Promise<unknown>,
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
 * So it is, too, where it is not the first one, as if another copy of this package had been before it. It belongs to one
 * application, and is how those of one process are told apart.
 */
export function runWithoutObservables(creator: ExternalContextCreator): void {
  const { interceptorsConsumer } = creator as unknown as { interceptorsConsumer?: object };
  const prototype: { intercept?: Intercept } | null = interceptorsConsumer ? Reflect.getPrototypeOf(interceptorsConsumer) : null;
  const intercept = prototype?.intercept;
  if (!prototype || wrapped.has(prototype) || typeof intercept !== 'function') return;
  wrapped.add(prototype);
  Reflect.set(prototype, 'intercept', function (this: unknown, interceptors, args, instance, handler, next, type) {
    const [first, ...others] = Array.isArray(interceptors) ? interceptors : [];
    const ordinary = (which: readonly unknown[], func = next) => intercept.call(this, which, args, instance, handler, func, type);
    if (!(first instanceof BackgroundTasksInterceptor) || typeof next !== 'function') return ordinary(interceptors);
    const observed = () => first.aroundHandler(type, args, next, sendsEvents(handler));
    if (type !== 'http' || sendsEvents(handler)) return ordinary(interceptors, observed);
    return first.aroundInterceptors(args, instance, handler, others.length > 0 ? () => ordinary(others, observed) : next);
  } satisfies Intercept);
}
