import { BackgroundTasksError } from '../task/errors.js';
import { TASK_EXPECTATIONS, type TaskOptions } from '../task/options.js';
import { type Expectations, FUNCTION, milliseconds, oneOf } from '../task/validation.js';
import type { BackgroundTasksEngine } from './engine.js';

/** When an engine gets the tasks of a request: before the client has the answer, or once the answer is out. */
export type FlushMode = 'before-response' | 'after-response';

/** Options of one task: `tasks.addTask({ name: 'welcome-mail' }, sendMail, address)`. */
export interface BackgroundTaskOptions extends TaskOptions {
  /** When an engine gets the task. For `@BackgroundTask()` methods alone. @default the method's `flush`, or the module's */
  flush?: FlushMode | undefined;
}

/** Which engine an application has, and when it gets tasks. */
export interface EngineOptions {
  /** Where `@BackgroundTask()` methods go, such as `bullmqEngine()` of `nestjs-background-tasks/bullmq`. @default none: they run in process */
  engine?: BackgroundTasksEngine | undefined;
  /**
   * Called in `addTask` for each task that goes to the engine. What it returns, JSON or a promise of that, is `task.carried` in the worker: a
   * tenant and a user, for example, which `around` enters there. It is stored with the job, where everybody who sees the queue can read it:
   * carry no secrets.
   *
   * What it throws is the task's failure. Under `flush: 'before-response'` it fails the request as well. @default none
   */
  carry?: (() => unknown) | undefined;
  /** When the engine gets the tasks of a request. @default 'before-response': the answer goes out only after the engine has them */
  flush?: FlushMode | undefined;
  /** Milliseconds that the engine is given to take the tasks of a request, all retries included: 300000 at most. @default 5000 */
  flushTimeout?: number | undefined;
}

export interface ResolvedEngineOptions {
  readonly engine: BackgroundTasksEngine | undefined;
  readonly carry: (() => unknown) | undefined;
  readonly flush: FlushMode;
  readonly flushTimeout: number;
}

export const ENGINE_DEFAULTS: ResolvedEngineOptions = {
  engine: undefined,
  carry: undefined,
  flush: 'before-response',
  flushTimeout: 5_000,
};

/** An engine has to know an entry again for as long as it may be handed over. */
const LONGEST_FLUSH = 300_000;

export const FLUSH = oneOf('before-response', 'after-response');

export const ENGINE_EXPECTATIONS: Expectations<EngineOptions> = {
  engine: {
    expected: 'an engine, such as `bullmqEngine({ … })`',
    accepts: (value) => typeof value === 'object' && value !== null && 'enqueue' in value,
  },
  carry: FUNCTION,
  flush: FLUSH,
  flushTimeout: milliseconds(1, LONGEST_FLUSH),
};

export const BACKGROUND_TASK_EXPECTATIONS: Expectations<BackgroundTaskOptions> = { ...TASK_EXPECTATIONS, flush: FLUSH };

/** The error for an option that only an engine can keep. */
export function needsEngine(option: string, owner: string): BackgroundTasksError {
  return new BackgroundTasksError(
    'INVALID_OPTION',
    `The option \`${option}\` of ${owner} needs an engine, as a crash of this process would forget it: ` +
      'configure `engine` in BackgroundTasksModule.forRoot(), or leave the option out',
  );
}
