import { type ContextId, ContextIdFactory, type ContextIdResolver, type ContextIdStrategy, type HostComponentInfo } from '@nestjs/core';

/** Creates durable providers once per tenant, and other request-scoped providers once per request. */
export class TenantStrategy implements ContextIdStrategy<{ headers: Record<string, string | undefined> }> {
  /** One entry per tenant, for good, as Nest keeps the instances, too. Anybody can send a header: reject unknown tenants first. */
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
