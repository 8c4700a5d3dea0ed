import { type Expectations, milliseconds, oneOf, validated } from './validation.js';

/** The outcome of a request on which a task runs. */
export type RunOn = 'success' | 'failure' | 'always';

/** Options of one task. */
export interface TaskOptions {
  /** What logs and errors call the task. @default the function's own name */
  name?: string | undefined;
  /** Milliseconds after which the task is given up: its signal fires and the next one starts. @default the module's `timeout` */
  timeout?: number | undefined;
  /** The outcome of the request on which the task runs; with another it is discarded. @default the module's `runOn` */
  runOn?: RunOn | undefined;
}

/** Those of a task that was given none. */
export const NO_OPTIONS: Readonly<TaskOptions> = Object.freeze({});

export const RUN_ON = oneOf('success', 'failure', 'always');
export const TIMEOUT = milliseconds(1);

export const TASK_EXPECTATIONS: Expectations<TaskOptions> = {
  name: { expected: 'a non-empty string', accepts: (value) => typeof value === 'string' && value !== '' },
  timeout: TIMEOUT,
  runOn: RUN_ON,
};

/**
 * The options of one task, validated.
 *
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function checkTaskOptions<Options>(options: unknown, expectations: Expectations<Options>): Partial<Options> {
  return validated('addTask()', options, expectations);
}
