import type { TaskOptions } from './background-task.js';
import { BackgroundTasksError } from './errors.js';

/** The rule for the value of an option. */
export interface Expectation {
  readonly expected: string;
  readonly accepts: (value: unknown) => boolean;
}

export type Expectations<Options> = Readonly<Record<keyof Options, Expectation>>;

export const oneOf = (...values: string[]): Expectation => ({
  expected: values.map((value) => `'${value}'`).join(' or '),
  accepts: (value) => typeof value === 'string' && values.includes(value),
});

/** The longest delay of a Node timer. A timer with a longer delay fires at once. */
const MAX_DELAY_MS = 2 ** 31 - 1;

export const milliseconds = (min: number, max = MAX_DELAY_MS): Expectation => ({
  expected: `milliseconds, an integer from ${min} to ${max}`,
  accepts: (value) => Number.isInteger(value) && Number(value) >= min && Number(value) <= max,
});

export const BOOLEAN: Expectation = { expected: 'true or false', accepts: (value) => typeof value === 'boolean' };

export const FUNCTION: Expectation = { expected: 'a function', accepts: (value) => typeof value === 'function' };

/**
 * Checks each option that is set, and returns those.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function validated<Options>(
  owner: string,
  options: unknown,
  expectations: Expectations<Options>,
  hint: (unknownOption: string) => string = () => '',
): Partial<Options> {
  if (typeof options !== 'object' || options === null)
    throw invalid('BACKGROUND_TASK_INVALID_OPTION', `the options of ${owner}`, 'an object', options);
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  for (const [name, value] of given) {
    if (!Object.hasOwn(expectations, name)) {
      const known = Object.keys(expectations).join('`, `');
      throw new BackgroundTasksError(
        'BACKGROUND_TASK_INVALID_OPTION',
        `Unknown option \`${name}\` of ${owner}, expected one of \`${known}\`${hint(name)}`,
      );
    }
    const { expected, accepts } = expectations[name as keyof Options];
    if (!accepts(value)) throw invalid('BACKGROUND_TASK_INVALID_OPTION', `the option \`${name}\` of ${owner}`, expected, value);
  }
  // Each value has just been checked.
  return Object.fromEntries(given) as Partial<Options>;
}

/** The error for a bad value. It names the option or argument, the expected values, and the actual value with its type. */
export function invalid(
  code: 'BACKGROUND_TASK_INVALID_OPTION' | 'BACKGROUND_TASK_INVALID_TASK',
  subject: string,
  expected: string,
  value: unknown,
): BackgroundTasksError {
  return new BackgroundTasksError(
    code,
    `Expected ${subject} to be ${expected}, got ${code === 'BACKGROUND_TASK_INVALID_TASK' ? describeArgument(value) : describe(value)}`,
  );
}

/** Describes a value that may be an argument of a task, hence personal data: by its type alone. */
export function describeArgument(value: unknown): string {
  return typeof value === 'string' || typeof value === 'bigint' || typeof value === 'symbol' ? `a ${typeof value}` : describe(value);
}

/** Describes a value with its type. Objects and functions are described by their type alone, as their text may contain personal data. */
function describe(value: unknown): string {
  if (value === null || value === undefined) return `\`${value}\``;
  if (Array.isArray(value)) return 'an array';
  if (value instanceof Promise) return 'a promise';
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'function') return 'a function';
  return `\`${Object.is(value, -0) ? '-0' : String(value)}\` (${typeof value})`;
}

/** Shared by all tasks that have no options. */
export const NO_OPTIONS: Readonly<TaskOptions> = Object.freeze({});

export const RUN_ON = oneOf('success', 'failure', 'always');
export const TIMEOUT = milliseconds(1);

export const TASK_EXPECTATIONS: Expectations<TaskOptions> = {
  name: { expected: 'a non-empty string', accepts: (value) => typeof value === 'string' && value !== '' },
  timeout: TIMEOUT,
  runOn: RUN_ON,
  parallel: BOOLEAN,
};

/**
 * Checks the options of one task, and returns those that are set.
 *
 * @throws BackgroundTasksError `BACKGROUND_TASK_INVALID_OPTION`, naming the option, its value and what was expected.
 */
export function checkTaskOptions<Options>(options: unknown, expectations: Expectations<Options>): Partial<Options> {
  return validated('addTask()', options, expectations);
}
