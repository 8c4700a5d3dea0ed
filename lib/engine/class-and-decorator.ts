type Class = abstract new (...args: never[]) => object;

/**
 * One export in two roles: `new Name()` makes an instance of the class, `@Name()` decorates.
 *
 * A plain function that delegates, and not a `Proxy`: what Nest defines on it (the scope) must be found on it, and
 * `instance.constructor` must be the injection token.
 */
export function classAndDecorator<Both extends Class>(
  target: Class,
  name: string,
  decorator: (...args: never[]) => unknown,
  make: (...args: never[]) => object,
): Both {
  function both(...args: never[]): unknown {
    if (!new.target) return decorator(...args);
    const instance = make(...args);
    // For a subclass. `Reflect.construct` would do the same, and takes microseconds where V8 takes a hundredth of them.
    return new.target === both ? instance : Object.setPrototypeOf(instance, new.target.prototype);
  }
  Object.setPrototypeOf(both, target);
  Object.defineProperties(both, { name: { value: name }, prototype: { value: target.prototype } });
  Object.defineProperty(target.prototype, 'constructor', { value: both, configurable: true, writable: true });
  // TypeScript cannot express a function that is made a class by hand.
  return both as unknown as Both;
}
