import type { EngineEntry, EngineJob } from '../background-tasks.engine.js';
import { BackgroundTasksError } from '../background-tasks.errors.js';
import type { NamedMethod } from './named-methods.js';

/** What only the task of a `@BackgroundTask()` method has. */
export class NamedCall {
  readonly method: NamedMethod;
  /** The provider that the method runs on. */
  host: object | undefined;
  /** What goes to the engine in the place of the task. */
  entry: EngineEntry | undefined;
  /** What the engine handed out for the task to do, in a worker. */
  job: EngineJob | undefined;

  constructor(method: NamedMethod) {
    this.method = method;
  }

  call(args: readonly unknown[]): unknown {
    const { host, method } = this;
    // A function, or it would not have been found as a method.
    if (host) return Reflect.apply(Reflect.get(host, method.key) as () => unknown, host, args);
    throw new BackgroundTasksError(
      'INVALID_TASK',
      `Background task "${method.name}" is a @BackgroundTask() method, and a list made by hand does not know its provider: check what \`tasks\` holds, and call the method itself`,
    );
  }
}
