/** @module nestjs-background-tasks */
export { BackgroundTask } from './engine/background-task.js';
export type {
  BackgroundTasksEngine,
  DeduplicationOptions,
  EngineEntry,
  EngineEntryOptions,
  EngineHealth,
  EngineHost,
  EngineJob,
  EngineMethodOptions,
  EngineTaskOptions,
  EngineWorker,
} from './engine/engine.js';
export type { BackgroundTaskOptions, FlushMode, NamedTaskOptions } from './engine/options.js';
export type { JoinTransaction } from './engine/transactions.js';
export { BackgroundTasksModule } from './module/background-tasks.module.js';
export type { BackgroundTasksModuleOptions, BackgroundTasksRootOptions } from './module/options.js';
export { BackgroundTasksInterceptor } from './request/background-tasks.interceptor.js';
export { BackgroundTasks } from './request/background-tasks.js';
export { type BackgroundTasksHealth, BackgroundTasksRunner } from './request/background-tasks.runner.js';
export type { BackgroundTaskDiscardMessage, BackgroundTaskTraceMessage, TraceHeaders } from './task/diagnostics.js';
export type { JsonValue, TaskEnd, TaskState } from './task/background-task.js';
export { currentTask } from './task/current-task.js';
export {
  BackgroundTasksCancelledError,
  BackgroundTasksEngineError,
  BackgroundTasksError,
  type BackgroundTasksErrorCode,
  BackgroundTasksOverflowError,
  BackgroundTasksShutdownError,
  BackgroundTasksTimeoutError,
} from './task/errors.js';
export type { RunOn } from './task/background-task.js';
