import type { Type } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import { type ProviderWrapper, isSingleton } from '../nest-internals/modules.js';
import { BackgroundTasksError } from '../task/errors.js';
import { type NamedMethod, classOf, declaredBy, namedMethodsOf } from './named-methods.js';

/** The provider of a named method, and its module. */
interface Provider {
  readonly instance: object;
  readonly module: string;
}

/** The `@BackgroundTask()` methods of an application, each with the provider that it runs on. */
export class NamedProviders {
  readonly #providers = new Map<NamedMethod, Provider>();
  readonly #methods = new Map<string, NamedMethod>();
  #hasDiscovered = false;

  constructor(private readonly modules: ModulesContainer) {}

  get methods(): readonly NamedMethod[] {
    return [...this.#methods.values()];
  }

  find(name: string): NamedMethod | undefined {
    return this.#methods.get(name);
  }

  /**
   * The provider of a named method.
   * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` if the application has none.
   */
  providerOf(method: NamedMethod): object {
    // In `onModuleInit()` of a provider, the application has not discovered its methods yet.
    if (!this.#hasDiscovered) this.discover();
    const provider = this.#providers.get(method);
    if (provider) return provider.instance;
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_INVALID_TASK',
      `@BackgroundTask("${method.name}") is a method of ${classOf(method)}, which is not a provider of this application: add it to the \`providers\` of a module`,
    );
  }

  /**
   * Finds the named methods of every provider.
   * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_TASK` if a name is registered twice, or a provider is created for each request.
   */
  discover(): void {
    this.#hasDiscovered = true;
    for (const module of this.modules.values()) {
      for (const wrapper of module.providers.values()) this.#discover(wrapper, module.name);
    }
  }

  #discover(wrapper: ProviderWrapper, module: string): void {
    const isClass = wrapper.inject == null && typeof wrapper.metatype === 'function';
    // Includes the token, so that a test's override runs the tasks of the provider.
    const methods = new Set([...declaredIn(wrapper.token), ...(isClass ? declaredIn(wrapper.metatype) : [])]);
    if (!isSingleton(wrapper)) {
      for (const method of methods) throw notASingleton(method, wrapper.name);
      return;
    }
    const instance: unknown = wrapper.instance;
    if (typeof instance !== 'object' || instance === null) return;
    for (const method of namedMethodsOf(instance, methods)) this.#add(method, { instance, module });
  }

  #add(method: NamedMethod, provider: Provider): void {
    const registered = this.#providers.get(method);
    if (registered?.instance === provider.instance) return;
    const namesake = this.#methods.get(method.name);
    if (registered)
      throw registeredTwice(
        method,
        `it is a method of two providers, in ${registered.module} and in ${provider.module}`,
        'provide the class in one module, and export it',
      );
    if (namesake) throw registeredTwice(method, `${methodOf(namesake)} and ${methodOf(method)} have this name`, 'give each its own name');
    this.#providers.set(method, provider);
    this.#methods.set(method.name, method);
  }
}

function declaredIn(token: unknown): NamedMethod[] {
  return typeof token === 'function' ? declaredBy((token as Type).prototype) : [];
}

function methodOf(method: NamedMethod): string {
  return `${classOf(method)}.${String(method.key)}`;
}

function registeredTwice(method: NamedMethod, why: string, advice: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `@BackgroundTask("${method.name}") is registered twice: ${why}; ${advice}`,
  );
}

function notASingleton(method: NamedMethod, provider: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'BACKGROUND_TASK_INVALID_TASK',
    `@BackgroundTask("${method.name}") is a method of ${provider}, which is not a singleton, but a task runs when its request is over; ` +
      'move the method to a singleton provider that injects nothing request-scoped',
  );
}
