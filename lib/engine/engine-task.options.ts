import { type Expectation, type Expectations, milliseconds } from '../task/validation.js';

/** What only an engine can keep: a promise that outlives the process. */
export interface EngineTaskOptions {
  /** How often the task is run at most, if it fails. @default 1 */
  attempts?: number | undefined;
  /** Milliseconds between two attempts, or how they grow. @default 0 */
  backoff?: number | { type: 'fixed' | 'exponential'; delay: number } | undefined;
  /** Milliseconds that the task waits before it may start. @default 0 */
  delay?: number | undefined;
  /** From 1, the most urgent; BullMQ's go to 2097151. Tasks without a priority come before all of them. @default none */
  priority?: number | undefined;
}

const POSITIVE_INTEGER: Expectation = {
  expected: 'a positive integer',
  accepts: (value) => Number.isInteger(value) && Number(value) > 0,
};
const isMilliseconds = milliseconds(0).accepts;

export const ENGINE_TASK_EXPECTATIONS: Expectations<EngineTaskOptions> = {
  attempts: POSITIVE_INTEGER,
  backoff: { expected: "milliseconds or { type: 'fixed' | 'exponential', delay: milliseconds }", accepts: isBackoff },
  delay: milliseconds(0),
  priority: POSITIVE_INTEGER,
};

function isBackoff(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return isMilliseconds(value);
  const { type, delay, ...others } = value as Record<string, unknown>;
  return (type === 'fixed' || type === 'exponential') && isMilliseconds(delay) && Object.keys(others).length === 0;
}

/** The options that an engine is needed for. */
export function engineOptionsOf(options: EngineTaskOptions): EngineTaskOptions {
  return Object.fromEntries(Object.entries(options).filter(([name]) => Object.hasOwn(ENGINE_TASK_EXPECTATIONS, name)));
}
