import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { AuditLog } from './audit-log.js';
import { DocumentsController } from './documents.controller.js';
import { Mailer } from './mailer.js';
import { SharingService } from './sharing.service.js';

@Module({
  imports: [BackgroundTasksModule],
  controllers: [DocumentsController],
  providers: [AuditLog, Mailer, SharingService],
})
export class AppModule {}
