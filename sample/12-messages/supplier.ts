import { Injectable } from '@nestjs/common';

/** Stands in for the service of a supplier. */
@Injectable()
export class Supplier {
  readonly orders: string[] = [];

  async order(article: string, reason: string): Promise<void> {
    this.orders.push(`${article}: ${reason}`);
  }
}
