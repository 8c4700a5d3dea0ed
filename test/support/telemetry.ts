import http from 'node:http';
import { metrics } from '@opentelemetry/api';
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { AggregationTemporality, InMemoryMetricExporter, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  type ReadableSpan,
  SimpleSpanProcessor,
  type TracerConfig,
} from '@opentelemetry/sdk-trace-node';

/** OpenTelemetry's SDK with exporters that a spec can look into. One per process, as what it registers is. */
export class Telemetry {
  readonly #spans = new InMemorySpanExporter();
  readonly #measurements = new InMemoryMetricExporter(AggregationTemporality.DELTA);
  readonly #reader = new PeriodicExportingMetricReader({ exporter: this.#measurements, exportIntervalMillis: 2 ** 31 - 1 });
  readonly #tracerProvider: NodeTracerProvider;
  readonly #meterProvider = new MeterProvider({ readers: [this.#reader] });
  readonly #instrumentation = new HttpInstrumentation({ disableOutgoingRequestInstrumentation: true });

  constructor({ spanProcessors = [], ...config }: TracerConfig = {}) {
    this.#tracerProvider = new NodeTracerProvider({ ...config, spanProcessors: [new SimpleSpanProcessor(this.#spans), ...spanProcessors] });
  }

  start(): void {
    this.#tracerProvider.register();
    metrics.setGlobalMeterProvider(this.#meterProvider);
    // The instrumentation does this when `node:http` is loaded, but under Jest it does not notice that.
    this.#http.patch!(http);
  }

  async stop(): Promise<void> {
    this.#instrumentation.disable();
    // The specs of one worker share Node's own modules.
    this.#http.unpatch!(http);
    await Promise.all([this.#tracerProvider.shutdown(), this.#meterProvider.shutdown()]);
  }

  get #http() {
    return this.#instrumentation.getModuleDefinitions().find(({ name }) => name === 'http')!;
  }

  async reset(): Promise<void> {
    await this.#reader.forceFlush();
    this.#spans.reset();
    this.#measurements.reset();
  }

  /** The spans that have ended. */
  get spans(): ReadableSpan[] {
    return this.#spans.getFinishedSpans();
  }

  get spanNames(): string[] {
    return this.spans.map(({ name }) => name);
  }

  span(wanted: string): ReadableSpan {
    return this.spans.find(({ name }) => name === wanted)!;
  }

  /** The measurements since the last call, by metric and then by the values of the attributes; for durations, their number. */
  async collect(): Promise<Record<string, Record<string, unknown>>> {
    await this.#reader.forceFlush();
    const all = this.#measurements.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics));
    this.#measurements.reset();
    return Object.fromEntries(
      all.map(({ descriptor, dataPoints }) => [
        descriptor.name,
        Object.fromEntries(
          dataPoints.map(({ attributes, value }) => [Object.values(attributes).join(' '), typeof value === 'number' ? value : value.count]),
        ),
      ]),
    );
  }
}
