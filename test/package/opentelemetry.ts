import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { BackgroundTasksOpenTelemetryModule } from 'nestjs-background-tasks/opentelemetry';

@Module({ imports: [BackgroundTasksModule, BackgroundTasksOpenTelemetryModule] })
class AppModule {}

export const finished = NestFactory.createApplicationContext(AppModule, { logger: ['warn', 'error'] }).then((app) => app.close());
