export { BackgroundTasksOpenTelemetryModule } from './opentelemetry.module.js';
