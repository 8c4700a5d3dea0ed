/** @module nestjs-background-tasks/opentelemetry */
export { BackgroundTasksOpenTelemetryModule } from './opentelemetry.module.js';
