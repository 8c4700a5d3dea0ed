import { AsyncResource } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import type { AnyFunction, TaskEnd } from './background-task.js';
import { nameOf } from './describe-error.js';
import type { TaskOptions } from './options.js';

/** The list of an application that a task is in. */
export interface TaskOwner {
  /** The tasks that have not ended and were asked for their ids, by these. */
  readonly known: Map<string, HeldTask>;
  /** Lets go of a task that was cancelled before it started. */
  cancelled(task: HeldTask, reason: string): void;
  /** Told of each task that has ended, and been reported, so that nothing is left to be done. */
  over(): void;
}

/** In the place of the list of a task that it has let go of. */
const NO_LONGER_IN_A_LIST: TaskOwner = { known: new Map(), cancelled() {}, over() {} };

/** `'delivering'`: it is on its way to an engine. */
type TaskState = 'pending' | 'active' | 'delivering' | TaskEnd;

/** What few tasks need. */
interface Details {
  id?: string;
  ended?: Promise<TaskEnd>;
  resolveEnded?: (end: TaskEnd) => void;
  controller?: AbortController | undefined;
  timer?: NodeJS.Timeout;
  givenUp?: Error | undefined;
}

/** In the place of a function that has done its work. */
export const DONE = (): void => {};
export const NO_ARGS: readonly unknown[] = Object.freeze([]);

/**
 * What can be held on to of a task, before its end and after it. Many may wait: what few need is not on each, no method is private, as those
 * cost each task a field, and the async context of the code that makes a task is in the task itself. Capturing it turns no async hooks on;
 * entering a store would.
 */
export abstract class HeldTask extends AsyncResource {
  /** The function, or, once it has been let go of, its name. */
  what: AnyFunction | string;
  args: readonly unknown[];
  readonly options: Readonly<TaskOptions>;
  state: TaskState = 'pending';
  /** None, if the task is made by hand. */
  owner: TaskOwner | undefined;
  details: Details | undefined;

  constructor(func: AnyFunction, args: readonly unknown[], options: Readonly<TaskOptions>) {
    super('BackgroundTask');
    this.what = func;
    this.args = args;
    this.options = options;
  }

  get func(): AnyFunction {
    return typeof this.what === 'string' ? DONE : this.what;
  }

  get name(): string {
    return this.options.name ?? (typeof this.what === 'string' ? this.what : nameOf(this.what));
  }

  get id(): string {
    const details = this.asked();
    if (details.id === undefined) {
      details.id = this.makeId();
      if (!this.hasEnded) this.owner?.known.set(details.id, this);
    }
    return details.id;
  }

  /** Has the id outlive what it is made of. */
  keepId(): void {
    this.asked().id ??= this.makeId();
  }

  makeId(): string {
    return randomUUID();
  }

  get attempt(): number {
    return 1;
  }

  /** How many attempts there are at most. */
  get attempts(): number {
    return 1;
  }

  get carried(): unknown {
    return undefined;
  }

  get signal(): AbortSignal {
    const details = (this.details ??= {});
    if (!details.controller) {
      details.controller = new AbortController();
      if (details.givenUp) details.controller.abort(details.givenUp);
    }
    return details.controller.signal;
  }

  get ended(): Promise<TaskEnd> {
    const details = this.asked();
    return (details.ended ??= new Promise((resolve) => {
      if (isEnd(this.state)) resolve(this.state);
      else details.resolveEnded = resolve;
    }));
  }

  get hasEnded(): boolean {
    return isEnd(this.state);
  }

  toJSON(): { name: string } {
    return { name: this.name };
  }

  /** What `console.log` makes of it. */
  [inspect.custom](): string {
    return `BackgroundTask { name: '${this.name}' }`;
  }

  /** Calls a function in the async context of the code that made the task. */
  within<Result>(func: () => Result): Result {
    return this.runInAsyncScope(func);
  }

  /** Says how the task ended. */
  end(how: TaskEnd): void {
    this.state = how;
    const { details } = this;
    if (!details) return;
    if (details.id !== undefined) this.owner?.known.delete(details.id);
    details.resolveEnded?.(how);
  }

  /** Lets go, when nobody will run or report the task any more, of what belongs to its request: the task may be kept. */
  release(): void {
    this.what = this.name;
    this.args = NO_ARGS;
    if (this.details) forgetContext(this);
    this.owner?.over();
    if (this.owner) this.owner = NO_LONGER_IN_A_LIST;
  }

  /** What few tasks need: only those that somebody holds on to. */
  asked(): Details {
    if (!this.details) {
      this.details = {};
      if (typeof this.what === 'string') forgetContext(this);
    }
    return this.details;
  }
}

function isEnd(state: TaskState): state is TaskEnd {
  return state !== 'pending' && state !== 'active' && state !== 'delivering';
}

/** Node keeps the stores of an async context in properties of its resource, beside two numbers. It takes its time to find them. */
function forgetContext(task: HeldTask): void {
  for (const key of Object.getOwnPropertySymbols(task)) {
    if (typeof Reflect.get(task, key) !== 'number') Reflect.set(task, key, undefined);
  }
}
