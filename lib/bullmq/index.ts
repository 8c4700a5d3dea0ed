/** @module nestjs-background-tasks/bullmq */
import type { BackgroundTasksEngine } from '../engine/engine.js';
import { BullmqEngine } from './engine.js';
import { type BullmqEngineOptions, resolveBullmqOptions } from './options.js';
import { assertBullmq } from './workarounds.js';

export type { BullmqBackend, BullmqClient, BullmqEngineOptions, BullmqKeepOptions, BullmqWorkerOptions } from './options.js';

/**
 * Creates an engine that runs `@BackgroundTask()` methods through BullMQ, on Redis or, with BullMQ 6, on Postgres.
 *
 * @example
 * ```ts
 * BackgroundTasksModule.forRoot({ engine: bullmqEngine({ connection: 'redis://localhost:6379', worker: false }) })
 * ```
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, naming the option, its value and what was expected;
 * `BACKGROUND_TASK_MISSING_PACKAGE` if BullMQ is too old.
 */
export function bullmqEngine(options: BullmqEngineOptions): BackgroundTasksEngine {
  const resolved = resolveBullmqOptions(options);
  assertBullmq(resolved.connection);
  return new BullmqEngine(resolved);
}
