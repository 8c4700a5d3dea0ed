import {
  type Context,
  INVALID_SPAN_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  context,
  propagation,
  trace,
} from '@opentelemetry/api';
import { jobOf } from '../engine/named-task.js';
import type { BackgroundTask } from '../task/background-task.js';
import type { TraceHeaders } from '../task/channels.js';
import { messageOf, stackOf, typeOf } from '../task/describe-error.js';
import { contained } from './contained.js';

/** In the place of one that could not be started. */
export const NO_SPAN = trace.wrapSpanContext(INVALID_SPAN_CONTEXT);

/** Starts the span of a task, and returns it with the context that it is active in. In a worker, it goes on with the trace that the task was added in. */
export function startSpan(tracer: Tracer, task: BackgroundTask): [Span, Context] {
  const { name } = task;
  const job = jobOf(task);
  const parent = job?.trace ? propagation.extract(context.active(), job.trace) : context.active();
  const attributes = { 'background_task.name': name, ...(job && { 'background_task.attempt': job.attempt }) };
  const kind = job ? SpanKind.CONSUMER : SpanKind.INTERNAL;
  const span = tracer.startSpan(`background task ${name}`, { kind, attributes }, parent);
  return [span, trace.setSpan(parent, span)];
}

/** Gives a span what its task failed with; returns the `error.type`. */
export function recordError(span: Span, error: unknown): string {
  const [type, message, stack] = [typeOf(error), messageOf(error), stackOf(error)];
  span.setAttribute('error.type', type);
  span.recordException({ name: type, message, ...(stack && { stack }) });
  span.setStatus({ code: SpanStatusCode.ERROR, message });
  return type;
}

/** The active trace, for a worker to go on with. */
export function headersOfTrace(): TraceHeaders {
  const headers: Record<string, string> = {};
  contained(() => propagation.inject(context.active(), headers));
  return headers;
}
