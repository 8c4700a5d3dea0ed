import { Module } from '@nestjs/common';
import { TerminusModule } from '@nestjs/terminus';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { BackgroundTasksOpenTelemetryModule } from 'nestjs-background-tasks/opentelemetry';
import { HealthController } from './health.controller.js';
import { OrdersController } from './orders.controller.js';
import { SlowTasks } from './slow-tasks.js';

@Module({
  imports: [BackgroundTasksModule, BackgroundTasksOpenTelemetryModule, TerminusModule],
  controllers: [OrdersController, HealthController],
  providers: [SlowTasks],
})
export class AppModule {}
