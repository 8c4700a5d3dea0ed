import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { InvoicesController } from './invoices.controller.js';
import { InvoicesService } from './invoices.service.js';
import { TenantStore } from './tenant-store.js';

@Module({
  imports: [BackgroundTasksModule],
  controllers: [InvoicesController],
  providers: [InvoicesService, TenantStore],
})
export class AppModule {}
