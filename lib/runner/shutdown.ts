import { clearTimeout, setTimeout } from 'node:timers';
import { setImmediate } from 'node:timers/promises';
import type { BeforeApplicationShutdown, OnApplicationShutdown, OnModuleDestroy } from '@nestjs/common';
import type { Relay } from '../engine/relay.js';
import type { WorkerHost } from '../engine/worker-host.js';
import { BackgroundTasksShutdownError } from '../task/errors.js';
import type { Task } from '../task/task.js';
import type { Runner } from './runner.js';
import { inSlices } from './turns.js';

/**
 * Grace period after the deadline, in ms: for tasks to end when their signals fire, for `onError`, and for an engine to take back its
 * tasks.
 */
const GRACE_MS = 1_000;

/**
 * Grace period for a task that requested the shutdown, once all others have ended. It may have work left, or wait for the shutdown itself.
 */
const SHUTDOWN_CALLER_GRACE_MS = 500;

/**
 * Waits for requests in flight and for tasks while the application closes. Every hook drains, all under one deadline: while the server is
 * open, requests come in and add tasks, and Nest 11 runs every hook again when `close()` is called twice.
 */
export class Shutdown implements OnModuleDestroy, BeforeApplicationShutdown, OnApplicationShutdown {
  readonly #runner: Runner;
  readonly #workerHost: WorkerHost;
  readonly #relay: Relay | undefined;
  readonly #requeue = new AbortController();
  #deadline: number | undefined;
  #grace: Promise<unknown> | undefined;
  #hasWarnedOfShutdownCallers = false;

  constructor(runner: Runner, workerHost: WorkerHost, relay?: Relay) {
    this.#runner = runner;
    this.#workerHost = workerHost;
    this.#relay = relay;
  }

  onModuleDestroy(): Promise<void> {
    return this.#drain();
  }

  beforeApplicationShutdown(): Promise<void> {
    return this.#drain();
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#drain();
    const closed = abortAll(this.#runner, 'the application has shut down');
    await atMost(GRACE_MS, all(closed, this.#workerHost.close()));
    this.#relay?.logLeftTasks();
  }

  async #drain(): Promise<void> {
    const { shutdownTimeout } = this.#runner.options;
    this.#deadline ??= this.#begin(shutdownTimeout);
    const worker = all(this.#workerHost.drain(this.#requeue.signal), this.#relay?.stopSweeping() ?? Promise.resolve());
    const left = Math.max(0, this.#deadline - performance.now());
    if (await atMost(left, this.#canClose(worker))) return;
    const reason = `the application shuts down, and its shutdownTimeout of ${shutdownTimeout} ms is over`;
    const closed = abortAll(this.#runner, reason);
    this.#requeue.abort(reason);
    await (this.#grace ??= atMost(GRACE_MS, all(closed, worker, this.#runner.counters.onAbandonedEnded())));
  }

  /** Returns the deadline. */
  #begin(shutdownTimeout: number): number {
    const { counters, log } = this.#runner;
    this.#runner.closeRequested();
    this.#runner.beginToClose();
    const inWorker = this.#workerHost.runningNames;
    const own = counters.canClose ? 0 : counters.active + counters.pending;
    const names = own > 0 ? this.#runner.names() : [];
    if (own + inWorker.length > 0) log.waiting(own + inWorker.length, new Set([...names, ...inWorker]), shutdownTimeout);
    return performance.now() + shutdownTimeout;
  }

  async #canClose(worker: Promise<void>): Promise<void> {
    const { counters } = this.#runner;
    await worker;
    // If there is nothing to wait for, this must not take a turn of the event loop: code that does not await `app.close()`, for example in
    // a hot reload, may listen on the same port right after.
    while (!counters.canClose) {
      await counters.onCanClose();
      // Code that runs after a handler, such as an exception filter, may still add a task in this turn.
      await setImmediate();
    }
    if (counters.hasShutdownCallers) await this.#leaveShutdownCallers();
  }

  /** A task that requested the shutdown and is still running most likely awaits it. */
  async #leaveShutdownCallers(): Promise<void> {
    if (this.#hasWarnedOfShutdownCallers || (await atMost(SHUTDOWN_CALLER_GRACE_MS, this.#runner.counters.onAllSettled()))) return;
    this.#hasWarnedOfShutdownCallers = true;
    this.#runner.log.closedByTask();
  }
}

/**
 * Makes a runner refuse new tasks, aborts the running ones, and drops the waiting ones. It works in slices, so that many tasks do not block
 * the event loop, and logs one line for the running tasks and one for the waiting ones.
 */
async function abortAll(runner: Runner, reason: string): Promise<void> {
  const lists = runner.refuseTasks(reason);
  const uncommitted = runner.transactions.takeLost();
  if (lists.length === 0 && uncommitted.length === 0) return;
  // All waiting tasks leave their lists first. Otherwise the next one would start when a running task is aborted.
  const waiting = lists.map((list) => list.takeAll());
  const running = new Map<string, number>();
  const active = lists.flatMap((list) => list.active);
  await inSlices(active, (task) => {
    if (runner.abandon(task, new BackgroundTasksShutdownError(task.name, `was aborted: ${reason}`))) count(running, task.name);
  });
  runner.log.lost(running, 'was aborted', 'were aborted', reason);
  const neverStarted = new Map<string, number>();
  const dropped: Task[] = [];
  await inSlices(each([uncommitted, ...waiting]), (task) => {
    // The signal of another task may have cancelled it.
    if (!task.discard()) return;
    count(neverStarted, task.name);
    dropped.push(task);
  });
  runner.log.lost(neverStarted, 'never started', 'never started', reason);
  await inSlices(dropped, (task) => {
    runner.drop(
      task,
      withoutStack(() => new BackgroundTasksShutdownError(task.name, `never started: ${reason}`)),
      reason,
    );
  });
}

/** Creates an error without a stack. Many errors from one place have the same stack, and capturing it takes most of the time. */
function withoutStack(make: () => Error): Error {
  const limit = stackTraceLimit();
  stackTraceLimit(0);
  const error = make();
  stackTraceLimit(limit);
  return error;
}

/** Returns or sets the limit. An application may have frozen `Error`, or defined an accessor that throws. */
function stackTraceLimit(limit?: number): number | undefined {
  try {
    if (limit === undefined) return Error.stackTraceLimit;
    Reflect.set(Error, 'stackTraceLimit', limit);
  } catch {
    // The errors keep their stacks.
  }
  return undefined;
}

function* each(lists: readonly Iterable<Task>[]): Iterable<Task> {
  for (const list of lists) yield* list;
}

function count(names: Map<string, number>, name: string): void {
  names.set(name, (names.get(name) ?? 0) + 1);
}

async function all(...promises: Promise<unknown>[]): Promise<void> {
  await Promise.all(promises);
}

/** Resolves with true if the promise resolves within a time, in ms. */
async function atMost(milliseconds: number, promise: Promise<void>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, milliseconds, false);
  });
  const inTime = await Promise.race([promise.then(() => true), late]);
  clearTimeout(timer);
  return inTime;
}
