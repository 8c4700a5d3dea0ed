import { RUN_ON, type RunOn } from '../task/options.js';
import { type Expectations, oneOf } from '../task/validation.js';

/** Options of a request's list. */
export interface ListOptions {
  /** The outcome of a request on which its tasks run; with another they are discarded. @default 'success', as in FastAPI */
  runOn?: RunOn | undefined;
  /** When a task fails, the remaining tasks of its request run (`'continue'`) or are discarded (`'stop'`, as in Starlette). @default 'continue' */
  onTaskFailure?: 'continue' | 'stop' | undefined;
}

export interface ResolvedListOptions {
  readonly runOn: RunOn;
  readonly onTaskFailure: 'continue' | 'stop';
}

export const LIST_DEFAULTS: ResolvedListOptions = { runOn: 'success', onTaskFailure: 'continue' };

export const LIST_EXPECTATIONS: Expectations<ListOptions> = { runOn: RUN_ON, onTaskFailure: oneOf('continue', 'stop') };
