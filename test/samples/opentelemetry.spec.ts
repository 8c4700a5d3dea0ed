// Sample 09: traces, metrics, health and slow tasks.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type Server, createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { json } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import supertest from 'supertest';
import { AppModule } from '../../sample/09-opentelemetry/app.module.js';
import { HealthController } from '../../sample/09-opentelemetry/health.controller.js';
import { SlowTasks } from '../../sample/09-opentelemetry/slow-tasks.js';
import { createApp, platforms } from '../support/app.js';

interface Span {
  readonly name: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly status: { readonly message?: string };
}

/** The data that a collector gets by OTLP. */
interface Exported {
  readonly resourceSpans?: { scopeSpans: { spans: Span[] }[] }[];
  readonly resourceMetrics?: { scopeMetrics: { scope: { name: string }; metrics: { name: string }[] }[] }[];
}

describe('sample/09-opentelemetry, started with its tracing.ts,', () => {
  let exported: Exported[];
  let collector: Server;
  let server: ChildProcess;

  beforeEach(async () => {
    exported = [];
    collector = createServer((request, response) => {
      void json(request).then((body) => {
        exported.push(body as Exported);
        response.setHeader('Content-Type', 'application/json').end('{}');
      });
    });
    await once(collector.listen(0, '127.0.0.1'), 'listening');
    const imports = ['./test/support/typescript.js', './sample/09-opentelemetry/tracing.ts'].flatMap((file) => ['--import', file]);
    const nest11 = createRequire(import.meta.url)
      .resolve('@nestjs/core')
      .includes('nest-11');
    server = spawn(process.execPath, [...imports, './sample/09-opentelemetry/main.ts'], {
      env: {
        ...process.env,
        // Jest's own flags are not for the program.
        NODE_OPTIONS: '',
        NEST: nest11 ? '11' : '12',
        PORT: '0',
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
        OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json',
      },
      stdio: ['ignore', 'pipe', 'ignore'],
    });
  });

  afterEach(() => {
    server.kill('SIGKILL');
    collector.close();
  });

  it('sends a collector the tasks as spans in the trace of their request, and metrics, the last ones at shutdown', async () => {
    const http = supertest(await urlOf(server));
    await http.post('/orders/7').expect(201, { id: '7' });
    await http.post('/orders/13').expect(201, { id: '13' });
    server.kill('SIGTERM');
    expect(await once(server, 'close')).toEqual([0, null]);

    const spans = exported
      .flatMap(({ resourceSpans = [] }) => resourceSpans)
      .flatMap((one) => one.scopeSpans.flatMap((scope) => scope.spans));
    const nested = (parent?: string): unknown[] =>
      spans
        .filter(({ parentSpanId }) => parentSpanId === parent)
        .map(({ name, spanId, status }) => [status.message ? `${name}: ${status.message}` : name, ...nested(spanId)]);
    expect(nested()).toEqual([
      ['POST', ['background task sendReceipt', ['render receipt']], ['background task reserveStock']],
      ['POST', ['background task sendReceipt', ['render receipt']], ['background task reserveStock: out of stock']],
    ]);

    const scopes = exported.flatMap(({ resourceMetrics = [] }) => resourceMetrics).flatMap((one) => one.scopeMetrics);
    const { metrics } = scopes.find(({ scope }) => scope.name === 'nestjs-background-tasks')!;
    // The gauges of an application are gone when it has closed.
    expect(metrics.map(({ name }) => name).toSorted()).toEqual(['background_tasks.duration', 'background_tasks.ended']);
  });
});

/** The address that a server says it listens on. */
async function urlOf({ stdout }: ChildProcess): Promise<string> {
  for await (const line of createInterface(stdout!)) {
    const [, url] = /^Listening on (.*)$/.exec(line) ?? [];
    if (url) return url.replace('[::1]', '127.0.0.1');
  }
  throw new Error('The server ended before it listened');
}

describe.each(platforms)('sample/09-opentelemetry on %s', (platform) => {
  afterEach(() => {
    SlowTasks.threshold = HealthController.maxPending = 1_000;
    jest.restoreAllMocks();
  });

  it('answers at /health how many tasks run and wait', async () => {
    const { http } = await createApp(platform, AppModule);
    await http.get('/health').expect(200, health('ok', { status: 'up', active: 0, pending: 0 }));
    HealthController.maxPending = -1;
    await http.get('/health').expect(503, health('error', { status: 'down', active: 0, pending: 0 }));
  });

  it('logs the tasks that take long', async () => {
    const warnings = jest.spyOn(Logger.prototype, 'warn');
    const { http, runner } = await createApp(platform, AppModule);
    await http.post('/orders/7').expect(201);
    await runner.onIdle();
    expect(warnings).not.toHaveBeenCalled();
    SlowTasks.threshold = 0;
    await http.post('/orders/7').expect(201);
    await runner.onIdle();
    expect(warnings.mock.calls).toEqual([
      [expect.stringMatching(/^sendReceipt took \d+ ms$/)],
      [expect.stringMatching(/^reserveStock took \d+ ms$/)],
    ]);
  });
});

/** The answer of terminus. */
function health(status: 'ok' | 'error', backgroundTasks: { status: 'up' | 'down'; active: number; pending: number }) {
  const up = backgroundTasks.status === 'up';
  return {
    status,
    info: up ? { backgroundTasks } : {},
    error: up ? {} : { backgroundTasks },
    details: { backgroundTasks },
  };
}
