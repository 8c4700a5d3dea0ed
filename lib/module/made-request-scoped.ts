import { Scope } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import type { ProviderWrapper } from '../nest-internals/modules.js';
import { BackgroundTasks } from '../request/background-tasks.js';

const HOOKS = ['onModuleInit', 'onApplicationBootstrap', 'onModuleDestroy', 'beforeApplicationShutdown', 'onApplicationShutdown'];

/** What is looked for in singletons, by the metadata of its decorator, of a class or of a method, and by its value if others have the key, too. */
const DECORATORS: readonly { name: string; key: string; value?: string }[] = [
  { name: '@WebSocketGateway()', key: 'websockets:is_gateway' },
  { name: '@Processor()', key: 'bullmq:processor_metadata' },
  { name: '@Processor()', key: 'bull:module_queue' },
  { name: '@Cron(), @Interval() or @Timeout()', key: 'SCHEDULER_TYPE' },
  { name: '@OnEvent()', key: 'EVENT_LISTENER_METADATA' },
  { name: '@Subscription()', key: 'graphql:resolver_type', value: 'Subscription' },
];

/**
 * What to say of the classes that the injection of `BackgroundTasks` has made request-scoped, directly or through others, although they count on
 * being made once; `undefined` if there are none. Nest says nothing: hooks are not called, and strategies not registered.
 */
export function madeRequestScoped(modules: ModulesContainer): string | undefined {
  const lines = new Set<string>();
  for (const module of modules.values()) {
    for (const wrapper of [...module.providers.values(), ...module.controllers.values(), ...module.injectables.values()]) {
      const what = isRequestScoped(wrapper) && countsOn(wrapper.metatype);
      const chain = what && chainFrom(wrapper);
      if (chain) lines.add(`${chain.map(({ name }) => name).join(' → ')}: ${what}`);
    }
  }
  if (lines.size === 0) return undefined;
  return (
    `Injecting BackgroundTasks makes a class request-scoped, and every class that injects it. These classes count on being created once:\n` +
    `${[...lines].map((line) => `  ${line}\n`).join('')}` +
    'Take the list as a parameter of the handler, `@BackgroundTasks() tasks: BackgroundTasks`, and pass it on, or inject a singleton that ' +
    'follows the request: `BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })`'
  );
}

/** Whether something that it depends on makes a class request-scoped, and not the class itself. */
function isRequestScoped(wrapper: ProviderWrapper): boolean {
  return wrapper.scope !== Scope.REQUEST && wrapper.inject == null && !wrapper.isDependencyTreeStatic();
}

/** What a class has that wants a singleton. */
function countsOn(metatype: ProviderWrapper['metatype']): string | undefined {
  const prototype: unknown = typeof metatype === 'function' ? metatype.prototype : undefined;
  if (!metatype || typeof prototype !== 'object' || prototype === null) return undefined;
  if ('getPassportInstance' in prototype) return 'a Passport strategy, which registers itself when it is created';
  const hooks = HOOKS.filter((hook) => hook in prototype);
  if (hooks.length > 0) return `its ${hooks.map((hook) => `${hook}()`).join(', ')} will not be called`;
  const decorator = [metatype, ...methodsOf(prototype)].map(decoratorOf).find(Boolean);
  return decorator && `${decorator} is for singletons`;
}

function decoratorOf(target: object): string | undefined {
  const has = (key: string, value?: string): boolean =>
    value === undefined ? Reflect.hasMetadata(key, target) : Reflect.getMetadata(key, target) === value;
  return DECORATORS.find(({ key, value }) => has(key, value))?.name;
}

function methodsOf(prototype: object): object[] {
  const methods: object[] = [];
  for (let link: object | null = prototype; link && link !== Object.prototype; link = Object.getPrototypeOf(link)) {
    for (const { value } of Object.values(Object.getOwnPropertyDescriptors(link))) if (typeof value === 'function') methods.push(value);
  }
  return methods;
}

/** The shortest way from a class to `BackgroundTasks`, through nothing that is request-scoped of itself. */
function chainFrom(wrapper: ProviderWrapper): ProviderWrapper[] | undefined {
  const seen = new Set([wrapper]);
  for (let chains = [[wrapper]]; chains.length > 0;) {
    const longer: ProviderWrapper[][] = [];
    for (const chain of chains) {
      for (const dependency of dependenciesOf(chain.at(-1)!)) {
        if (seen.has(dependency)) continue;
        seen.add(dependency);
        if (dependency.token === BackgroundTasks) return [...chain, dependency];
        if (dependency.scope !== Scope.REQUEST && !dependency.isDependencyTreeStatic()) longer.push([...chain, dependency]);
      }
    }
    chains = longer;
  }
  return undefined;
}

function dependenciesOf(wrapper: ProviderWrapper): ProviderWrapper[] {
  const properties = (wrapper.getPropertiesMetadata() ?? []).map((property) => property.wrapper);
  return [...(wrapper.getCtorMetadata() ?? []), ...properties, ...(wrapper.getEnhancersMetadata() ?? [])].filter(Boolean);
}
