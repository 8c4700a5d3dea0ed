import { type InjectionToken, Scope } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import type { ProviderWrapper as Wrapper } from './modules.js';

/** A class that Nest creates for each request because it injects a request-scoped provider, directly or through others. */
export interface RequestScopedUser {
  /** The shortest path from the class to that provider that contains nothing request-scoped on purpose. */
  readonly path: readonly [user: Wrapper, ...Wrapper[]];
  /** The classes that inject it, or have it as an enhancer. */
  readonly dependents: readonly Wrapper[];
  /** Its token, if it is a global enhancer. */
  readonly globalToken: string | undefined;
  /** For a global enhancer: true if it declares a scope. Nest keeps one without a scope among the providers. */
  readonly isInjectable: boolean;
}

/**
 * The undocumented properties that the functions below read.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/injector/instance-wrapper.ts
 */
const UNDOCUMENTED = [
  'name',
  'token',
  'scope',
  'metatype',
  'inject',
  'isAlias',
  'getCtorMetadata',
  'getPropertiesMetadata',
  'getEnhancersMetadata',
] as const satisfies readonly (keyof Wrapper)[];

/**
 * All users of a provider, if it is request-scoped.
 *
 * @throws TypeError if this version of Nest lacks one of these properties.
 */
export function requestScopedUsers(modules: ModulesContainer, token: InjectionToken): RequestScopedUser[] {
  const all = [...modules.values()];
  const allInjectables = new Set(all.flatMap(({ injectables }) => [...injectables.values()]));
  const wrappers = all.flatMap(({ providers, controllers, injectables }) => [
    ...providers.values(),
    ...controllers.values(),
    ...injectables.values(),
  ]);
  const requested = all.flatMap(({ providers }) => providers.get(token) ?? []);
  requested.forEach(assertReadable);

  const dependents = new Map<Wrapper, Wrapper[]>();
  for (const wrapper of wrappers) {
    for (const dependency of dependenciesOf(wrapper)) {
      const others = dependents.get(dependency);
      if (others) others.push(wrapper);
      else dependents.set(dependency, [wrapper]);
    }
  }
  const towardsProvider = new Map<Wrapper, Wrapper>();
  const found = requested.filter(({ scope }) => scope === Scope.REQUEST);
  // Breadth first, from the provider outwards. The array grows while the loop reads it.
  for (const injected of found) {
    for (const user of dependents.get(injected) ?? []) {
      if (towardsProvider.has(user)) continue;
      towardsProvider.set(user, injected);
      if (user.scope !== Scope.REQUEST && !globalTokenOf(user)) found.push(user);
    }
  }
  return wrappers
    .filter((wrapper) => towardsProvider.has(wrapper))
    .map((wrapper) => ({
      path: pathFrom(wrapper, towardsProvider),
      dependents: dependents.get(wrapper) ?? [],
      globalToken: globalTokenOf(wrapper),
      isInjectable: allInjectables.has(wrapper),
    }));
}

function assertReadable(wrapper: Wrapper): void {
  const missing = UNDOCUMENTED.find((key) => wrapper[key] === undefined);
  if (missing) throw new TypeError(`this version of Nest has no \`InstanceWrapper#${missing}\``);
}

function dependenciesOf(wrapper: Wrapper): Set<Wrapper> {
  const properties = (wrapper.getPropertiesMetadata() ?? []).map((property) => property.wrapper);
  return new Set([...(wrapper.getCtorMetadata() ?? []), ...properties, ...(wrapper.getEnhancersMetadata() ?? [])].filter(Boolean));
}

/**
 * `APP_GUARD`, for example. Nest gives each global enhancer a token of its own.
 *
 * @see https://github.com/nestjs/nest/blob/v12.5.1/packages/core/scanner.ts
 */
function globalTokenOf({ token }: Wrapper): string | undefined {
  return typeof token === 'string' ? /^(APP_(?:GUARD|PIPE|INTERCEPTOR|FILTER)) \(UUID: /.exec(token)?.[1] : undefined;
}

function pathFrom(user: Wrapper, towardsProvider: ReadonlyMap<Wrapper, Wrapper>): RequestScopedUser['path'] {
  const path: [Wrapper, ...Wrapper[]] = [user];
  for (let next = towardsProvider.get(user); next; next = towardsProvider.get(next)) path.push(next);
  return path;
}
