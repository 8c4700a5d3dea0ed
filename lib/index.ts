export { BackgroundTask } from './background-task.js';
export { BackgroundTasks } from './background-tasks.js';
export type { BackgroundTasksEngine, EngineEntry, EngineHost, EngineJob, EngineWorker, TraceHeaders } from './background-tasks.engine.js';
export type { BackgroundTaskDiscardMessage, BackgroundTaskTraceMessage } from './background-tasks.diagnostics.js';
export {
  BackgroundTasksEngineError,
  BackgroundTasksError,
  type BackgroundTasksErrorCode,
  BackgroundTasksOverflowError,
  BackgroundTasksShutdownError,
  BackgroundTasksTimeoutError,
} from './background-tasks.errors.js';
export { BackgroundTasksInterceptor } from './background-tasks.interceptor.js';
export { BackgroundTasksModule } from './background-tasks.module.js';
export type { BackgroundTaskOptions, BackgroundTasksModuleOptions, FlushMode, RunOn } from './background-tasks.options.js';
export { BackgroundTasksRunner } from './background-tasks.runner.js';
export type { EngineTaskOptions, NamedTaskOptions } from './engine/named-task.options.js';
export { currentTask } from './task-call.js';
