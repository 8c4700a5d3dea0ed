import type { JsonValue } from '../task/background-task.js';
import { BackgroundTasksError, taskCalled } from '../task/errors.js';
import { Task, type TaskBinding } from '../task/task.js';
import type { EngineEntry, EngineJob } from './engine.js';
import type { NamedMethod } from './named-methods.js';
import type { EngineCallOptions, FlushMode } from './options.js';

/** The call of a `@BackgroundTask()` method: on its provider in process, or through an engine. */
export class NamedCall implements TaskBinding {
  readonly method: NamedMethod;
  readonly flush: FlushMode | undefined;
  /** The options of this one call, which override the method's. */
  readonly own: EngineCallOptions;
  /** The provider that the method runs on. */
  provider: object | undefined;
  /** Goes to the engine in place of the task. */
  entry: EngineEntry | undefined;
  /** Settled once the entry has the result of the option `carry`. */
  carrying: Promise<void> | undefined;
  /** Writes the progress of the task down where other processes find it, in a worker. Never rejects. */
  onProgress: ((value: JsonValue) => Promise<void>) | undefined;
  /** The job that the engine handed out, in a worker. */
  readonly job: EngineJob | undefined;

  constructor(method: NamedMethod, { flush, own = {} }: { flush?: FlushMode | undefined; own?: EngineCallOptions }, job?: EngineJob) {
    this.method = method;
    this.flush = flush;
    this.own = own;
    this.job = job;
  }

  get name(): string {
    return this.method.name;
  }

  get id(): string | undefined {
    return this.job?.id ?? this.entry?.id;
  }

  get attempt(): number {
    return this.job?.attempt ?? 1;
  }

  get attempts(): number {
    return this.job?.attempts ?? (this.job && this.method.options.attempts) ?? 1;
  }

  get carried(): unknown {
    const json = this.job?.carried;
    return json === undefined ? undefined : JSON.parse(json);
  }

  get jobId(): string | undefined {
    return this.job?.id;
  }

  writeProgress(value: JsonValue): Promise<void> | undefined {
    return this.onProgress?.(value);
  }

  call(args: readonly unknown[]): unknown {
    const { provider, method } = this;
    // A function, or it would not have been found as a method.
    if (provider) return Reflect.apply(Reflect.get(provider, method.key) as () => unknown, provider, args);
    throw new BackgroundTasksError(
      'INVALID_TASK',
      `${taskCalled(method.name)} is a @BackgroundTask() method, and a list made by hand does not know its provider: check what \`tasks\` holds, and call the method itself`,
    );
  }

  release(): void {
    this.entry = undefined;
  }
}

/** The call of a task that is a `@BackgroundTask()` method. */
export function namedCallOf(task: Task): NamedCall | undefined {
  return task.binding instanceof NamedCall ? task.binding : undefined;
}

/** True for a task that goes to an engine. */
export function isForEngine(task: Task): boolean {
  return namedCallOf(task)?.entry !== undefined;
}

/** The job that an engine handed out for a task, in a worker. */
export function jobOf(task: unknown): EngineJob | undefined {
  return Task.isTask(task) ? namedCallOf(task)?.job : undefined;
}
