export { BackgroundTask } from './engine/background-task.js';
export type { BackgroundTasksEngine, EngineEntry, EngineHost, EngineJob, EngineWorker } from './engine/engine.js';
export type { DeduplicationOptions } from './engine/deduplication.js';
export type { EngineEntryOptions, EngineTaskOptions } from './engine/engine-task.options.js';
export { BackgroundTasksEngineError } from './engine/errors.js';
export type { NamedTaskOptions } from './engine/named-task.options.js';
export type { BackgroundTaskOptions, FlushMode } from './engine/options.js';
export { BackgroundTasksModule } from './module/background-tasks.module.js';
export type { BackgroundTasksModuleOptions, BackgroundTasksRootOptions } from './module/options.js';
export { BackgroundTasksInterceptor } from './request/background-tasks.interceptor.js';
export { BackgroundTasks } from './request/background-tasks.js';
export { BackgroundTasksRunner } from './runner/background-tasks.runner.js';
export type { BackgroundTaskDiscardMessage, BackgroundTaskTraceMessage, TraceHeaders } from './task/channels.js';
export type { TaskEnd } from './task/background-task.js';
export { currentTask } from './task/current-task.js';
export {
  BackgroundTasksCancelledError,
  BackgroundTasksError,
  type BackgroundTasksErrorCode,
  BackgroundTasksOverflowError,
  BackgroundTasksShutdownError,
  BackgroundTasksTimeoutError,
} from './task/errors.js';
export type { RunOn } from './task/options.js';
