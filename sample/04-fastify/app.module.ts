import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { ExportController } from './export.controller.js';

@Module({ imports: [BackgroundTasksModule], controllers: [ExportController] })
export class AppModule {}
