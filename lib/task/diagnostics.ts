import { channel, tracingChannel } from 'node:diagnostics_channel';
import type { BackgroundTask } from './background-task.js';

/** A trace as its propagator writes it into headers: `traceparent` and others, of W3C Trace Context. */
export type TraceHeaders = Readonly<Record<string, string>>;

/**
 * What the tracing channel `nestjs-background-tasks:task` publishes: one object per task that starts, the same in each of its events.
 *
 * `start` and `end` are published around the call. If the call returned a promise, `asyncStart` and `asyncEnd` follow when the task has settled,
 * or was given up. `error` comes before `end`, or before `asyncStart`. All are published in the async context of the code that added the task.
 */
export interface BackgroundTaskTraceMessage {
  readonly task: BackgroundTask;
  /** What the task threw or rejected with, or the error it was given up with; from the event `error` on. */
  error?: unknown;
}

/** What the channel `tracing:nestjs-background-tasks:task:discard` publishes for each task that never starts. */
export interface BackgroundTaskDiscardMessage {
  readonly task: BackgroundTask;
  /** Why, in the words of the log. */
  readonly reason: string;
}

/** Calls a task, and returns a promise only where the task did. */
type Call = () => Promise<void> | undefined;

/** What activates a span must be around the call of a task, and cannot be a subscriber. */
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

/** Has every task of the process traced by this tracer, or by none. */
export function traceTasks(by: TaskTracer | undefined): void {
  tracer = by;
}

/** The trace that the current code is part of, if tasks are traced. */
export function traceHeaders(): TraceHeaders | undefined {
  return tracer?.headers();
}

/** Whether anybody wants to know about tasks. Ask this first: nobody pays for `traced` then. */
export function observed(): boolean {
  return tracer !== undefined || tasks.hasSubscribers;
}

/** Calls a task for all who want to know about it. */
export function traced(task: BackgroundTask, call: Call): Promise<void> | undefined {
  return tracer ? tracer.around(task, () => published(task, call)) : published(task, call);
}

/** Node's `traceSync` for a call that returns nothing, and its `tracePromise` for one that returns a promise. */
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

/** Tells of a task that will not run. */
export function publishDiscard(task: BackgroundTask, reason: string): void {
  discards.publish({ task, reason } satisfies BackgroundTaskDiscardMessage);
}

/** Whether anybody wants to know about those. */
export function discardsObserved(): boolean {
  return discards.hasSubscribers;
}
