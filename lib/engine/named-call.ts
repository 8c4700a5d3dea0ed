import type { JsonValue } from '../task/background-task.js';
import { BackgroundTasksError, taskCalled } from '../task/errors.js';
import { Task, type TaskBinding } from '../task/task.js';
import type { EngineEntry, EngineJob } from './engine.js';
import type { NamedMethod } from './named-methods.js';
import type { EngineCallOptions, FlushMode } from './options.js';

/** The call of a `@BackgroundTask()` method, on its provider in process or through an engine. */
export class NamedCall implements TaskBinding {
  readonly method: NamedMethod;
  readonly flush: FlushMode | undefined;
  /** The options of this call, which override those of the method. */
  readonly own: EngineCallOptions;
  /** The provider that the method runs on. */
  provider: object | undefined;
  /** The entry to send to the engine, if the task goes there. */
  entry: EngineEntry | undefined;
  /** Resolves once the entry has the result of the option `carry`. */
  carrying: Promise<void> | undefined;
  /** In a worker, stores the progress of the task where other processes find it. Never rejects. */
  onProgress: ((value: JsonValue) => Promise<void>) | undefined;
  /** In a worker, the job from the engine. */
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
    // It is a function: otherwise it would not have been found as a method.
    if (provider) return Reflect.apply(Reflect.get(provider, method.key) as () => unknown, provider, args);
    throw new BackgroundTasksError(
      'BACKGROUND_TASK_INVALID_TASK',
      `${taskCalled(method.name)} is a @BackgroundTask() method, and a list made by hand does not know its provider. Check \`tasks\`, and call the method itself`,
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

/** True if the task goes to an engine. */
export function isForEngine(task: Task): boolean {
  return namedCallOf(task)?.entry !== undefined;
}

/** In a worker, the engine's job of a task. */
export function jobOf(task: unknown): EngineJob | undefined {
  return Task.isTask(task) ? namedCallOf(task)?.job : undefined;
}
