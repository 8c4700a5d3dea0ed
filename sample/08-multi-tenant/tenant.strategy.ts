import { type ContextId, ContextIdFactory, type ContextIdResolver, type ContextIdStrategy, type HostComponentInfo } from '@nestjs/core';

/** Makes what is durable once per tenant, and all else that is request-scoped once per request. */
export class TenantStrategy implements ContextIdStrategy<{ headers: Record<string, string | undefined> }> {
  /** One entry for each tenant, kept as long as the process, as Nest keeps its instances. Anybody can send a header: reject unknown tenants first. */
  readonly #tenants = new Map<string, ContextId>();

  attach(contextId: ContextId, request: { headers: Record<string, string | undefined> }): ContextIdResolver {
    const tenant = request.headers['x-tenant'] ?? 'public';
    const known = this.#tenants.get(tenant) ?? ContextIdFactory.create();
    this.#tenants.set(tenant, known);
    return {
      resolve: ({ isTreeDurable }: HostComponentInfo) => (isTreeDurable ? known : contextId),
      payload: { tenant },
    };
  }
}
