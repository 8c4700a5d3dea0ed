import { channel, tracingChannel } from 'node:diagnostics_channel';
import type { BackgroundTask } from './background-task.js';

/** The headers that a propagator writes for a trace, such as `traceparent` of W3C Trace Context. */
export type TraceHeaders = Readonly<Record<string, string>>;

/**
 * The message of the tracing channel `nestjs-background-tasks:task`. All events of one run share one object.
 *
 * `start` and `end` are published around the call. If the call returned a promise, `asyncStart` and `asyncEnd` follow when the task has
 * settled or was aborted. `error` comes before `end`, or before `asyncStart`. All are published in the async context of the code that added
 * the task.
 */
export interface BackgroundTaskTraceMessage {
  readonly task: BackgroundTask;
  /** The error that the task threw, rejected with, or was aborted with. Set from the event `error` on. */
  error?: unknown;
}

/** The message of the channel `tracing:nestjs-background-tasks:task:discard`, published for each task that never starts. */
export interface BackgroundTaskDiscardMessage {
  readonly task: BackgroundTask;
  /** The reason, worded as in the log. */
  readonly reason: string;
}

/** Calls a task. Returns a promise only if the task did. */
type Call = () => Promise<void> | undefined;

/** Traces tasks. To activate a span, a tracer has to wrap the call of the task, which a subscriber of a channel cannot do. */
export interface TaskTracer {
  /** Calls a task, in process or in a worker. */
  around(task: BackgroundTask, call: Call): Promise<void> | undefined;
  /** The trace that the current code is part of. */
  headers(): TraceHeaders;
}

const tasks = tracingChannel<unknown, BackgroundTaskTraceMessage>('nestjs-background-tasks:task');
export const DISCARDS = 'tracing:nestjs-background-tasks:task:discard';
const discards = channel(DISCARDS);
let tracer: TaskTracer | undefined;

/** Sets the tracer for all tasks of the process, or removes it. */
export function traceTasks(by: TaskTracer | undefined): void {
  tracer = by;
}

/** The trace that the current code is part of, if tasks are traced. */
export function traceHeaders(): TraceHeaders | undefined {
  return tracer?.headers();
}

/** True if there is a tracer or a subscriber. Check this before you call `traced()`: an application without either then pays nothing. */
export function isObserved(): boolean {
  return tracer !== undefined || tasks.hasSubscribers;
}

/** Calls a task for the tracer and the subscribers. */
export function traced(task: BackgroundTask, call: Call): Promise<void> | undefined {
  return tracer ? tracer.around(task, () => published(task, call)) : published(task, call);
}

/** Publishes the events of Node's `traceSync` if the call returns nothing, and those of `tracePromise` if it returns a promise. */
function published(task: BackgroundTask, call: Call): Promise<void> | undefined {
  if (!tasks.hasSubscribers) return call();
  const message: BackgroundTaskTraceMessage = { task };
  return tasks.start.runStores(message, () => {
    let end: Promise<void> | undefined;
    try {
      end = call();
    } catch (error) {
      failed(message, error);
      throw error;
    } finally {
      tasks.end.publish(message);
    }
    end?.then(
      () => settled(message),
      (error: unknown) => {
        failed(message, error);
        settled(message);
      },
    );
    return end;
  });
}

function failed(message: BackgroundTaskTraceMessage, error: unknown): void {
  message.error = error;
  tasks.error.publish(message);
}

function settled(message: BackgroundTaskTraceMessage): void {
  tasks.asyncStart.publish(message);
  tasks.asyncEnd.publish(message);
}

/** Publishes that a task will never run. */
export function publishDiscard(task: BackgroundTask, reason: string): void {
  discards.publish({ task, reason } satisfies BackgroundTaskDiscardMessage);
}

/** True if the channel for discards has subscribers. */
export function hasDiscardSubscribers(): boolean {
  return discards.hasSubscribers;
}
