import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { NodeSDK } from '@opentelemetry/sdk-node';

// Started before anything loads `node:http`: `node --import ./tracing.js main.js`. Where traces and metrics go, the environment says:
// OTEL_EXPORTER_OTLP_ENDPOINT, or OTEL_TRACES_EXPORTER=console.
export const sdk = new NodeSDK({ instrumentations: [new HttpInstrumentation()] });
sdk.start();
