export { BackgroundTask, currentTask } from './background-task.js';
export { BackgroundTasks } from './background-tasks.js';
export type { BackgroundTaskDiscardMessage, BackgroundTaskTraceMessage } from './background-tasks.diagnostics.js';
export {
  BackgroundTasksError,
  type BackgroundTasksErrorCode,
  BackgroundTasksOverflowError,
  BackgroundTasksShutdownError,
  BackgroundTasksTimeoutError,
} from './background-tasks.errors.js';
export { BackgroundTasksInterceptor } from './background-tasks.interceptor.js';
export { BackgroundTasksModule } from './background-tasks.module.js';
export type { BackgroundTaskOptions, BackgroundTasksModuleOptions, RunOn } from './background-tasks.options.js';
export { BackgroundTasksRunner } from './background-tasks.runner.js';
