import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { NodeSDK } from '@opentelemetry/sdk-node';

// Start this before anything loads `node:http`: `node --import ./tracing.js main.js`. The environment sets where traces and metrics go:
// OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_TRACES_EXPORTER=console.
export const sdk = new NodeSDK({ instrumentations: [new HttpInstrumentation()] });
sdk.start();
