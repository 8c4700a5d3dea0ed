import { type Expectation, FLUSH, type FlushMode, RUN_ON, type RunOn, milliseconds, validated } from '../background-tasks.options.js';

/** What only an engine can keep: a promise that outlives the process. */
export interface EngineTaskOptions {
  /** How often the task is run at most, if it fails. @default 1 */
  attempts?: number | undefined;
  /** Milliseconds between two attempts, or how they grow. @default 0 */
  backoff?: number | { type: 'fixed' | 'exponential'; delay: number } | undefined;
  /** Milliseconds that the task waits before it may start. @default 0 */
  delay?: number | undefined;
  /** From 1, the most urgent, to 2097151. Tasks without a priority come before all of them. @default none */
  priority?: number | undefined;
}

/** Options of `@BackgroundTask(name, options)`. */
export interface NamedTaskOptions extends EngineTaskOptions {
  /** Milliseconds after which one attempt is given up: its signal fires. @default the module's `timeout` */
  timeout?: number | undefined;
  /** The outcome of the request on which the task runs; with another it is discarded. @default the module's `runOn` */
  runOn?: RunOn | undefined;
  /** When an engine gets the task. @default the module's `flush` */
  flush?: FlushMode | undefined;
}

const isMilliseconds = milliseconds(0).accepts;

const ENGINE_EXPECTATIONS: Record<keyof EngineTaskOptions, Expectation> = {
  attempts: { expected: 'a positive integer', accepts: (value) => Number.isInteger(value) && Number(value) > 0 },
  backoff: { expected: "milliseconds or { type: 'fixed' | 'exponential', delay: milliseconds }", accepts: isBackoff },
  delay: milliseconds(0),
  // BullMQ's limit; a queue with a higher one would still get by with two million.
  priority: {
    expected: 'an integer from 1 to 2097151',
    accepts: (value) => Number.isInteger(value) && Number(value) >= 1 && Number(value) < 2 ** 21,
  },
};

const EXPECTATIONS: Record<keyof NamedTaskOptions, Expectation> = {
  ...ENGINE_EXPECTATIONS,
  timeout: milliseconds(1),
  runOn: RUN_ON,
  flush: FLUSH,
};

function isBackoff(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return isMilliseconds(value);
  const { type, delay, ...others } = value as Record<string, unknown>;
  return (type === 'fixed' || type === 'exponential') && isMilliseconds(delay) && Object.keys(others).length === 0;
}

/**
 * The options of `@BackgroundTask()`, validated.
 *
 * @throws BackgroundTasksError `INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function checkNamedTaskOptions(options: unknown): NamedTaskOptions {
  return validated<NamedTaskOptions>('@BackgroundTask()', options, EXPECTATIONS);
}

/** The options that an engine is needed for. */
export function engineOptionsOf(options: NamedTaskOptions): EngineTaskOptions {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(ENGINE_EXPECTATIONS, name)));
}
