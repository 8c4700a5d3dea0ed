type Class = new (...args: never[]) => object;

/**
 * One export in two roles: `new Name()` makes an instance of the class, `@Name()` decorates.
 *
 * A plain function that delegates, and not a `Proxy`: what Nest defines on it (the scope) must be found on it, and
 * `instance.constructor` must be the injection token.
 */
export function classAndDecorator<Both extends Class>(target: Class, name: string, decorator: (...args: never[]) => unknown): Both {
  function both(...args: never[]): unknown {
    if (!new.target) return decorator(...args);
    // The same, but for subclasses, and that `Reflect.construct` takes microseconds for what V8 does in a hundredth of them.
    return new.target === both ? new target(...args) : Reflect.construct(target, args, new.target);
  }
  Object.setPrototypeOf(both, target);
  Object.defineProperties(both, { name: { value: name }, prototype: { value: target.prototype } });
  Object.defineProperty(target.prototype, 'constructor', { value: both, configurable: true, writable: true });
  // TypeScript cannot express a function that is made a class by hand.
  return both as unknown as Both;
}
