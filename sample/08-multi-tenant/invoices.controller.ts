import { Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { InvoicesService } from './invoices.service.js';
import { TenantStore } from './tenant-store.js';

@Controller('invoices')
export class InvoicesController {
  constructor(
    private readonly invoices: InvoicesService,
    private readonly store: TenantStore,
  ) {}

  @Post(':number')
  @HttpCode(202)
  bill(@Param('number') number: string): void {
    this.invoices.bill(number);
  }

  @Get()
  list(): string[] {
    return this.store.invoices;
  }
}
