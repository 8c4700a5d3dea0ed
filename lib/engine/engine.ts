import type { JsonValue, TaskState } from '../task/background-task.js';
import type { TraceHeaders } from '../task/diagnostics.js';

/** Options that need an engine: in process, a crash would forget them. Without an engine, an application that uses one does not start. */
export interface EngineTaskOptions {
  /** How often the task is run at most, if it fails. Needs an engine. @default 1 */
  attempts?: number | undefined;
  /** Time between two attempts, in ms, or how it grows. Needs an engine. @default 0 */
  backoff?: number | { type: 'fixed' | 'exponential'; delay: number } | undefined;
  /** Time that the task waits before it may start, in ms. Needs an engine. @default 0 */
  delay?: number | undefined;
  /** From 1, the most urgent; BullMQ's go to 2097151. Tasks without a priority come before all of them. Needs an engine. @default none */
  priority?: number | undefined;
  /** Keeps the engine from having the task several times. Needs an engine. @default none */
  deduplication?: DeduplicationOptions | undefined;
}

/** The engine's options of a `@BackgroundTask()` method. */
export interface EngineMethodOptions extends EngineTaskOptions {
  /**
   * The queue that the task waits in, so that it is not behind others. The engine says where its tasks run. Needs an engine.
   * @default the engine's queue
   */
  queue?: string | undefined;
}

/** Keeps an engine from having a task several times: while it has a task with a key, further tasks with that key are ignored. */
export interface DeduplicationOptions {
  /** The key among the tasks of this method, or a function that makes it of the task's arguments, called in `addTask`. */
  id: string | ((...args: never[]) => string);
  /** Time for which a key is taken, in ms. @default until its task has ended */
  ttl?: number | undefined;
  /** Whether each further task with the key starts the time again. @default false */
  extend?: boolean | undefined;
  /** Whether another task with the key replaces one that still waits for its `delay`. @default false */
  replace?: boolean | undefined;
}

/** The deduplication of one task, whose key is known. */
export interface Deduplication extends DeduplicationOptions {
  id: string;
}

/** The engine's options of one task. */
export interface EngineEntryOptions extends EngineTaskOptions {
  deduplication?: Deduplication | undefined;
}

/** One task on its way to an engine. */
export interface EngineEntry {
  /** Made once, in `addTask`: an entry that is handed over again is the same entry. */
  readonly id: string;
  /** The name of the `@BackgroundTask()` method. */
  readonly name: string;
  /** The class of the method's provider, so that a worker which lacks it can say what is missing. */
  readonly provider: string;
  /** The queue that the method names, if any. */
  readonly queue?: string | undefined;
  /** An array, as JSON. */
  readonly args: string;
  /** Milliseconds, if the task has a timeout of its own. */
  readonly timeout: number | undefined;
  /** The trace that the task was added in, for a worker to go on with, if tasks are traced. */
  readonly trace: TraceHeaders | undefined;
  /** The result of the option `carry`, as JSON. */
  readonly carried?: string | undefined;
  readonly options: EngineEntryOptions;
}

/** An entry whose turn has come, in a worker. */
export interface EngineJob extends Pick<EngineEntry, 'id' | 'name' | 'provider' | 'args' | 'timeout' | 'trace' | 'carried'> {
  /** From 1. */
  readonly attempt: number;
  /** How often the task is run at most, if it fails. @default the method's `attempts` */
  readonly attempts?: number | undefined;
  /** Writes down how far the task is, for `find()` in any process. */
  updateProgress?(value: JsonValue): Promise<void>;
}

/** Time for which entries are handed over again and again at most, in ms. An engine has to know an entry again for as long. */
export const LONGEST_FLUSH_MS = 300_000;

/** The application that an engine has a worker run tasks in. */
export interface EngineHost {
  /** The `@BackgroundTask()` methods of the application, each with the queue that it names, if any. */
  readonly tasks: readonly { readonly name: string; readonly queue: string | undefined }[];
  /**
   * False for a task whose method this process lacks, such as during a deployment: it has not been tried, and is to be given back, for another
   * worker, without using an attempt. `run()` fails it, with what is missing. Warns once per name.
   */
  knows(job: EngineJob): boolean;
  /**
   * Runs a task on its provider. Reports its failure, and rejects with it.
   *
   * As soon as the signal fires, or without a run if it has fired already, it rejects with a `BackgroundTasksShutdownError`. The task has then
   * not failed, and is to be given back.
   */
  run(job: EngineJob, signal: AbortSignal): Promise<void>;
  /** Reports a task that the engine failed by itself. */
  failed(job: EngineJob, error: unknown): void;
}

/** The worker that runs an engine's tasks in this process. */
export interface EngineWorker {
  /** Takes no more tasks, and resolves once none runs. When the signal fires, gives back those that run. */
  close(deadline: AbortSignal): Promise<void>;
}

/** Whether an engine can do its work for an application. */
export interface EngineHealth {
  /** True if tasks can be handed over. */
  readonly sends: boolean;
  /** True if tasks can be run in this process; `undefined` where none are to be run. */
  readonly works?: boolean | undefined;
  /** What is wrong, for a log: it may name servers and users. */
  readonly problem?: string | undefined;
}

/** An existing job queue that takes `@BackgroundTask()` methods over. The core knows no more of it than this. */
export interface BackgroundTasksEngine {
  /** Checks the options of a `@BackgroundTask()` method at boot, and those of one call in `addTask`, and throws for one that the engine cannot keep. */
  check?(task: string, options: EngineMethodOptions): void;
  /**
   * Resolves once all entries are safe. When it rejects, it is called again with the same entries, until the signal fires. After that, it may
   * not send any of them.
   */
  enqueue(entries: readonly EngineEntry[], signal: AbortSignal): Promise<void>;
  /** The state of a task that the engine has or remembers, wherever it runs. */
  find?(id: string): Promise<TaskState | undefined>;
  /**
   * Starts to run tasks, if the engine is configured to. It does not wait for a server that is away. What it throws, such as that a package is
   * missing, keeps the application from starting.
   */
  work(host: EngineHost): EngineWorker | undefined | Promise<EngineWorker | undefined>;
  /** Tells whether it can send tasks, and run those of an application. It sends the server a ping at most. */
  health?(host: EngineHost): Promise<EngineHealth>;
  /** Lets go of what it has for an application, and of its connections when no other one that it works for is open. */
  close(host: EngineHost): Promise<void>;
}
