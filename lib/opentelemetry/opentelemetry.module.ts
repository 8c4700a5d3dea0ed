import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Module, type OnApplicationShutdown, type OnModuleInit } from '@nestjs/common';
import {
  type BatchObservableCallback,
  type Context,
  INVALID_SPAN_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  context,
  diag,
  metrics,
  propagation,
  trace,
} from '@opentelemetry/api';
import { jobOf } from '../engine/named-call.js';
import { BackgroundTasksCoreModule } from '../module/core.module.js';
import { BackgroundTasksRunner } from '../request/background-tasks.runner.js';
import type { BackgroundTask } from '../task/background-task.js';
import { messageOf, stackOf, typeOf } from '../task/describe.js';
import { type BackgroundTaskDiscardMessage, DISCARDS, type TaskTracer, type TraceHeaders, traceTasks } from '../task/diagnostics.js';
import { BackgroundTasksShutdownError } from '../task/errors.js';

/** The name of the instrumentation scope. */
const SCOPE = 'nestjs-background-tasks';

const log = diag.createComponentLogger({ namespace: SCOPE });

/** The boundaries of OpenTelemetry's conventions for HTTP, in seconds, and higher ones for long tasks. */
const DURATIONS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 300];

/** The runners of all open applications, as OpenTelemetry observes the whole process. */
const runners = new Set<BackgroundTasksRunner>();
let stop: () => void;

/**
 * Creates a span for each task, and metrics, through the tracer and meter providers registered with `@opentelemetry/api`.
 *
 * @example
 * ```ts
 * @Module({ imports: [BackgroundTasksModule, BackgroundTasksOpenTelemetryModule] })
 * export class AppModule {}
 * ```
 */
@Module({ imports: [BackgroundTasksCoreModule] })
export class BackgroundTasksOpenTelemetryModule implements OnModuleInit, OnApplicationShutdown {
  constructor(private readonly runner: BackgroundTasksRunner) {}

  onModuleInit(): void {
    if (runners.size === 0) stop = observeTasks(runners);
    runners.add(this.runner);
  }

  onApplicationShutdown(): void {
    if (runners.delete(this.runner) && runners.size === 0) stop();
  }
}

/** Traces and counts every task of the process. Returns a function that stops it. */
function observeTasks(runners: ReadonlySet<BackgroundTasksRunner>): () => void {
  const tracer = trace.getTracer(SCOPE);
  const meter = metrics.getMeter(SCOPE);
  const ended = meter.createCounter('background_tasks.ended', { unit: '{task}', description: 'Tasks that completed or failed.' });
  const discarded = meter.createCounter('background_tasks.discarded', { unit: '{task}', description: 'Tasks that never started.' });
  const active = meter.createObservableGauge('background_tasks.active', { unit: '{task}', description: 'Tasks that are running.' });
  const pending = meter.createObservableGauge('background_tasks.pending', {
    unit: '{task}',
    description: 'Tasks that are waiting to start.',
  });
  const duration = meter.createHistogram('background_tasks.duration', {
    unit: 's',
    description: 'Duration of tasks.',
    advice: { explicitBucketBoundaries: DURATIONS_SECONDS },
  });

  const around: TaskTracer['around'] = (task, call) => {
    const name = { 'background_task.name': task.name };
    const [span, within] = contained(() => startSpan(tracer, task)) ?? [NO_SPAN, context.active()];
    const startedAt = performance.now();
    const measure = (attributes: typeof name & { 'error.type'?: string }): void => {
      ended.add(1, attributes);
      duration.record((performance.now() - startedAt) / 1000, attributes);
    };
    const completed = (): void =>
      contained(() => {
        measure(name);
        span.end();
      });
    const failed = (error: unknown): void =>
      contained(() => {
        if (isRequeued(task, error)) span.setAttribute('background_task.requeued', true);
        else measure({ ...name, 'error.type': recordError(span, error) });
        span.end();
      });
    let end: Promise<void> | undefined;
    try {
      end = context.with(within, call);
    } catch (error) {
      failed(error);
      throw error;
    }
    if (end) end.then(completed, failed);
    else completed();
    return end;
  };

  const count = (message: unknown): void => {
    contained(() => discarded.add(1, { 'background_task.name': (message as BackgroundTaskDiscardMessage).task.name }));
  };

  const observe: BatchObservableCallback = (result) => {
    result.observe(
      active,
      sum(runners, (runner) => runner.activeCount),
    );
    result.observe(
      pending,
      sum(runners, (runner) => runner.pendingCount),
    );
  };

  traceTasks({ around, headers: headersOfTrace });
  subscribe(DISCARDS, count);
  meter.addBatchObservableCallback(observe, [active, pending]);
  return () => {
    traceTasks(undefined);
    unsubscribe(DISCARDS, count);
    meter.removeBatchObservableCallback(observe, [active, pending]);
  };
}

/** True for a task that its worker requeued. It has not failed: another worker will run it. */
function isRequeued(task: BackgroundTask, error: unknown): boolean {
  return jobOf(task) !== undefined && error instanceof BackgroundTasksShutdownError;
}

function sum(runners: ReadonlySet<BackgroundTasksRunner>, countOf: (runner: BackgroundTasksRunner) => number): number {
  return [...runners].reduce((total, runner) => total + countOf(runner), 0);
}

/** Calls OpenTelemetry. If a processor, sampler or propagator throws, its error goes to OpenTelemetry's own log, and the task goes on. */
function contained<Result>(work: () => Result): Result | undefined {
  try {
    return work();
  } catch (error) {
    try {
      log.error('OpenTelemetry failed, and the background task goes on without it', error);
    } catch {
      // A logger that throws must not stop a task, either.
    }
    return undefined;
  }
}

/** Replaces a span that could not be started. */
const NO_SPAN = trace.wrapSpanContext(INVALID_SPAN_CONTEXT);

/**
 * Starts the span of a task, and returns it with the context in which it is active. In a worker, it continues the trace of the code that
 * added the task.
 */
function startSpan(tracer: Tracer, task: BackgroundTask): [Span, Context] {
  const { name } = task;
  const job = jobOf(task);
  const parent = job?.trace ? propagation.extract(context.active(), job.trace) : context.active();
  const attributes = { 'background_task.name': name, ...(job && { 'background_task.attempt': job.attempt }) };
  const kind = job ? SpanKind.CONSUMER : SpanKind.INTERNAL;
  const span = tracer.startSpan(`background task ${name}`, { kind, attributes }, parent);
  return [span, trace.setSpan(parent, span)];
}

/** Records the error of a failed task in its span. Returns the `error.type`. */
function recordError(span: Span, error: unknown): string {
  const [type, message, stack] = [typeOf(error), messageOf(error), stackOf(error)];
  span.setAttribute('error.type', type);
  span.recordException({ name: type, message, ...(stack && { stack }) });
  span.setStatus({ code: SpanStatusCode.ERROR, message });
  return type;
}

/** The headers of the active trace, for a worker to continue it. */
function headersOfTrace(): TraceHeaders {
  const headers: Record<string, string> = {};
  contained(() => propagation.inject(context.active(), headers));
  return headers;
}
