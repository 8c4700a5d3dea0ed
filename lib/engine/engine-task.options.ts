import { type Expectation, type Expectations, milliseconds } from '../task/validation.js';
import { DEDUPLICATION, type Deduplication, type DeduplicationOptions } from './deduplication.js';

/** What needs an engine: in process, a crash would forget it. Without an engine, an application that uses one of these does not start. */
export interface EngineTaskOptions {
  /** How often the task is run at most, if it fails. Needs an engine. @default 1 */
  attempts?: number | undefined;
  /** Milliseconds between two attempts, or how they grow. Needs an engine. @default 0 */
  backoff?: number | { type: 'fixed' | 'exponential'; delay: number } | undefined;
  /** Milliseconds that the task waits before it may start. Needs an engine. @default 0 */
  delay?: number | undefined;
  /** From 1, the most urgent; BullMQ's go to 2097151. Tasks without a priority come before all of them. Needs an engine. @default none */
  priority?: number | undefined;
  /** Keeps the engine from having the task several times. Needs an engine. @default none */
  deduplication?: DeduplicationOptions | undefined;
}

/** The same for one task. */
export interface EngineEntryOptions extends EngineTaskOptions {
  deduplication?: Deduplication | undefined;
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
  deduplication: DEDUPLICATION,
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
