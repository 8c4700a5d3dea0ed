import { Inject, Injectable, Scope } from '@nestjs/common';
import { REQUEST } from '@nestjs/core';

/** Stands in for the connection to the database of a tenant: too dear to be made for each request. */
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
