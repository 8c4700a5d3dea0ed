import type { JsonValue, TaskState } from '../task/background-task.js';
import type { TraceHeaders } from '../task/diagnostics.js';

/** Options that need an engine: in process, a crash would lose the task. An application that sets one without an engine does not start. */
export interface EngineTaskOptions {
  /** The maximum number of runs if the task fails. Needs an engine. @default 1 */
  attempts?: number | undefined;
  /** Time between two attempts, in ms, or a rule for its growth. Needs an engine. @default 0 */
  backoff?: number | { type: 'fixed' | 'exponential'; delay: number } | undefined;
  /** Time before the task may start, in ms. Needs an engine. @default 0 */
  delay?: number | undefined;
  /**
   * The priority, from 1, the most urgent, to 2097151 with BullMQ. Tasks without one run before all others. Needs an engine. @default none
   */
  priority?: number | undefined;
  /** Prevents the engine from having the task several times. Needs an engine. @default none */
  deduplication?: DeduplicationOptions | undefined;
}

/** The engine's options of a `@BackgroundTask()` method. */
export interface EngineMethodOptions extends EngineTaskOptions {
  /**
   * The queue of the task, so that it does not wait for the tasks of other queues. Options of the engine say where its tasks run. Needs an
   * engine.
   * @default the engine's queue
   */
  queue?: string | undefined;
}

/** Prevents duplicate tasks in an engine: while it has a task with a key, further tasks with that key are ignored. */
export interface DeduplicationOptions {
  /** The key, unique among the tasks of this method, or a function that makes it from the task's arguments. Called in `addTask`. */
  id: string | ((...args: never[]) => string);
  /** Time for which the key is taken, in ms. @default until its task has ended */
  ttl?: number | undefined;
  /** If true, each further task with the key restarts that time. @default false */
  extend?: boolean | undefined;
  /** If true, another task with the key replaces one that still waits for its `delay`. @default false */
  replace?: boolean | undefined;
}

/** The deduplication of one task, with its key. */
export interface Deduplication extends DeduplicationOptions {
  id: string;
}

/** The engine's options of one task. */
export interface EngineEntryOptions extends EngineTaskOptions {
  deduplication?: Deduplication | undefined;
}

/** One task on its way to an engine. */
export interface EngineEntry {
  /** Generated once, in `addTask`. An entry that is sent again has the same id. */
  readonly id: string;
  /** The name of the `@BackgroundTask()` method. */
  readonly name: string;
  /** The class of the method's provider. A worker without that provider names it in its error. */
  readonly provider: string;
  /** The queue that the method names, if any. */
  readonly queue?: string | undefined;
  /** The arguments, an array, as JSON. */
  readonly args: string;
  /** The timeout of the task, in ms, if it has its own. */
  readonly timeout: number | undefined;
  /** If tasks are traced, the trace of the code that added the task, which a worker continues. */
  readonly trace: TraceHeaders | undefined;
  /** The result of the option `carry`, as JSON. */
  readonly carried?: string | undefined;
  readonly options: EngineEntryOptions;
}

/** An entry that a worker runs. */
export interface EngineJob extends Pick<EngineEntry, 'id' | 'name' | 'provider' | 'args' | 'timeout' | 'trace' | 'carried'> {
  /** The number of this attempt, counted from 1. */
  readonly attempt: number;
  /** The maximum number of runs if the task fails. @default the method's `attempts` */
  readonly attempts?: number | undefined;
  /** Stores the progress of the task, for `find()` in any process. */
  updateProgress?(value: JsonValue): Promise<void>;
}

/** The longest time for which an entry is sent again, in ms. An engine has to remember the ids of entries for that time. */
export const MAX_FLUSH_MS = 300_000;

/** The application for which a worker of an engine runs tasks. */
export interface EngineHost {
  /** The `@BackgroundTask()` methods of the application, each with its queue, if it names one. */
  readonly tasks: readonly { readonly name: string; readonly queue: string | undefined }[];
  /**
   * False for a task whose method this process lacks, for example during a deployment. It has not been tried: requeue it for another
   * worker, without using an attempt. `run()` would fail it with an error that says what is missing. Warns once per name.
   */
  knows(job: EngineJob): boolean;
  /**
   * Runs a task on its provider. Reports a failure, and rejects with it.
   *
   * When the signal fires, it rejects with a `BackgroundTasksShutdownError`; without a run if the signal has already fired. The task has
   * not failed then: requeue it.
   */
  run(job: EngineJob, signal: AbortSignal): Promise<void>;
  /** Reports a task that the engine itself has failed. */
  failed(job: EngineJob, error: unknown): void;
}

/** The worker that runs an engine's tasks in this process. */
export interface EngineWorker {
  /** Takes no more tasks, and resolves once none is running. When the signal fires, requeues the running ones. */
  close(deadline: AbortSignal): Promise<void>;
}

/** The health of an engine for an application. */
export interface EngineHealth {
  /** True if tasks can be sent. */
  readonly sends: boolean;
  /** True if this process can run tasks; `undefined` if it is not configured to. */
  readonly works?: boolean | undefined;
  /** The problem. For logs only, as it may name servers and users. */
  readonly problem?: string | undefined;
}

/** An existing job queue that runs `@BackgroundTask()` methods. This is all that the core knows of it. */
export interface BackgroundTasksEngine {
  /**
   * Checks the options of a `@BackgroundTask()` method at boot, and those of one call in `addTask`. Throws for one that it does not
   * support.
   */
  check?(task: string, options: EngineMethodOptions): void;
  /**
   * Resolves once all entries are stored. If it rejects, it is called again with the same entries, until the signal fires. After that, it
   * must not send any of them.
   */
  enqueue(entries: readonly EngineEntry[], signal: AbortSignal): Promise<void>;
  /** The state of a task that the engine has or remembers, in whichever process it runs. */
  find?(id: string): Promise<TaskState | undefined>;
  /**
   * Starts to run tasks, if the engine is configured to. It does not wait for a server that is down. If it throws, for example because a
   * package is missing, the application does not start.
   */
  work(host: EngineHost): EngineWorker | undefined | Promise<EngineWorker | undefined>;
  /** Checks whether it can send tasks, and run those of an application. It sends the server a ping at most. */
  health?(host: EngineHost): Promise<EngineHealth>;
  /** Releases the resources of an application, and closes the connections if no other application uses the engine. */
  close(host: EngineHost): Promise<void>;
}
