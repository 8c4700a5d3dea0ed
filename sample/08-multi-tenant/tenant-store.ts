import { Inject, Injectable, Scope } from '@nestjs/common';
import { REQUEST } from '@nestjs/core';

/** Stands in for the database connection of a tenant, which is too expensive to open for each request. */
@Injectable({ scope: Scope.REQUEST, durable: true })
export class TenantStore {
  static connections = 0;
  readonly invoices: string[] = [];

  constructor(@Inject(REQUEST) readonly owner: { tenant: string }) {
    TenantStore.connections += 1;
  }

  async save(invoice: string): Promise<void> {
    this.invoices.push(invoice);
  }
}
