import type { AnyFunction } from '../task/background-task.js';
import { BackgroundTasksError, taskCalled } from '../task/errors.js';
import { Task } from '../task/task.js';
import type { EngineEntry, EngineJob } from './engine.js';
import type { NamedMethod } from './named-methods.js';
import type { BackgroundTaskOptions } from './options.js';

/** The task of a `@BackgroundTask()` method. */
export class NamedTask extends Task {
  declare readonly options: Readonly<BackgroundTaskOptions>;
  readonly method: NamedMethod;
  /** The provider that the method runs on. */
  provider: object | undefined;
  /** What goes to the engine in the place of the task. */
  entry: EngineEntry | undefined;
  /** Settled once the entry has what it carries. */
  carrying: Promise<void> | undefined;
  /** What the engine handed out for the task to do, in a worker. */
  job: EngineJob | undefined;

  constructor(method: NamedMethod, func: AnyFunction, args: readonly unknown[], options: Readonly<BackgroundTaskOptions>) {
    super(func, args, withDefaultsOf(method, options));
    this.method = method;
  }

  override get name(): string {
    return this.method.name;
  }

  override makeId(): string {
    return this.job?.id ?? this.entry?.id ?? super.makeId();
  }

  /** What an engine has, it cannot be talked out of here. */
  override cancel(reason?: string): boolean {
    return this.job ? false : super.cancel(reason);
  }

  /** To be called when the engine has it. */
  delivered(): void {
    this.end('queued');
    this.release();
  }

  override release(): void {
    if (this.entry) {
      this.keepId();
      this.entry = undefined;
    }
    super.release();
  }

  override get attempt(): number {
    return this.job?.attempt ?? 1;
  }

  override get attempts(): number {
    return (this.job && this.method.options.attempts) ?? 1;
  }

  override get carried(): unknown {
    const json = this.job?.carried;
    return json === undefined ? undefined : JSON.parse(json);
  }

  override call(): unknown {
    const { provider, method, args } = this;
    // A function, or it would not have been found as a method.
    if (provider) return Reflect.apply(Reflect.get(provider, method.key) as () => unknown, provider, args);
    throw new BackgroundTasksError(
      'INVALID_TASK',
      `${taskCalled(method.name)} is a @BackgroundTask() method, and a list made by hand does not know its provider: check what \`tasks\` holds, and call the method itself`,
    );
  }
}

/** A named task that goes to an engine. */
export type DeliverableTask = NamedTask & { entry: EngineEntry };

export function isForEngine(task: Task): task is DeliverableTask {
  return task instanceof NamedTask && task.entry !== undefined;
}

/** What an engine handed out for a task to do, in a worker. */
export function jobOf(task: unknown): EngineJob | undefined {
  return task instanceof NamedTask ? task.job : undefined;
}

function withDefaultsOf({ name, options }: NamedMethod, own: BackgroundTaskOptions): BackgroundTaskOptions {
  if (own.name !== undefined) {
    throw new BackgroundTasksError(
      'INVALID_OPTION',
      `The option \`name\` of addTask() does not go with the @BackgroundTask("${name}") method: it has a name`,
    );
  }
  const { timeout = options.timeout, runOn = options.runOn, flush = options.flush } = own;
  return { timeout, runOn, flush };
}
