import { RUN_ON, type RunOn, TIMEOUT } from '../task/options.js';
import { type Expectations, validated } from '../task/validation.js';
import { ENGINE_TASK_EXPECTATIONS, type EngineTaskOptions } from './engine-task.options.js';
import { FLUSH, type FlushMode } from './options.js';

/** Options of `@BackgroundTask(name, options)`. */
export interface NamedTaskOptions extends EngineTaskOptions {
  /** Milliseconds after which one attempt is given up: its signal fires. @default the module's `timeout` */
  timeout?: number | undefined;
  /** The outcome of the request on which the task runs; with another it is discarded. @default the module's `runOn` */
  runOn?: RunOn | undefined;
  /** When an engine gets the task. Needs an engine. @default the module's `flush` */
  flush?: FlushMode | undefined;
}

const EXPECTATIONS: Expectations<NamedTaskOptions> = {
  ...ENGINE_TASK_EXPECTATIONS,
  timeout: TIMEOUT,
  runOn: RUN_ON,
  flush: FLUSH,
};

/**
 * The options of `@BackgroundTask()`, validated.
 *
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function checkNamedTaskOptions(options: unknown): NamedTaskOptions {
  return validated<NamedTaskOptions>('@BackgroundTask()', options, EXPECTATIONS);
}
