// Public API: traces, metrics and the tracing channel cover the tasks of an engine.
import { randomUUID } from 'node:crypto';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Injectable, Module, Param, Post, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';
import {
  BackgroundTask,
  type BackgroundTaskDiscardMessage,
  type BackgroundTaskTraceMessage,
  BackgroundTasks,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  type EngineHost,
} from 'nestjs-background-tasks';
import { BackgroundTasksOpenTelemetryModule } from 'nestjs-background-tasks/opentelemetry';
import { type Platform, createApp, platforms } from '../support/app.js';
import { backends, engineOn, notTested } from '../support/backends.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';
import { Telemetry } from '../support/telemetry.js';

const telemetry = new Telemetry();

beforeAll(() => telemetry.start());
afterAll(() => telemetry.stop());

let ran: Recorder<string>;
let reported: Recorder<string>;

beforeEach(async () => {
  ran = new Recorder();
  reported = new Recorder();
  await telemetry.reset();
});

@Injectable()
class MailTasks {
  @BackgroundTask('mail', { attempts: 2 })
  async mail(address: string): Promise<void> {
    await Promise.resolve();
    // An instrumented client would do this.
    trace.getTracer('smtp').startSpan(`SMTP ${address}`).end();
    ran.add(address);
    if (address === 'nobody') throw new RangeError('no such mailbox');
  }

  @BackgroundTask('endless')
  endless(): Promise<void> {
    return new Promise(() => {});
  }
}

@Controller('mail')
class MailController {
  @Post(':address')
  mail(@Param('address') address: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(MailTasks.prototype.mail, address);
    tasks.addTask(MailTasks.prototype.mail, 'a-copy');
  }
}

function moduleWith(engine: BackgroundTasksEngine, controllers: Type[], flushTimeout?: number) {
  @Module({
    imports: [
      BackgroundTasksModule.forRoot({ engine, flushTimeout, onError: (error, task) => reported.add(`${task.name}: ${String(error)}`) }),
      BackgroundTasksOpenTelemetryModule,
    ],
    controllers,
    providers: [MailTasks],
  })
  class AppModule {}

  return AppModule;
}

/** Records the events of the channels until the test is over. */
const events: string[] = [];

function see(message: unknown, name: string | symbol): void {
  const event = String(name).split(':').at(-1);
  const { task, error, reason } = message as BackgroundTaskTraceMessage & BackgroundTaskDiscardMessage;
  events.push([task.name, event, error ?? reason].filter((part) => part !== undefined).join(' '));
}

const channels = ['start', 'end', 'error', 'asyncStart', 'asyncEnd', 'discard'].map(
  (event) => `tracing:nestjs-background-tasks:task:${event}`,
);

beforeEach(() => {
  events.length = 0;
  for (const channel of channels) subscribe(channel, see);
});

afterEach(() => {
  for (const channel of channels) unsubscribe(channel, see);
});

if (notTested(backends).length > 0) it.skip.each(notTested(backends))('%s', () => undefined);

describe.each(backends)('tasks that run in a worker, through BullMQ on $name,', (backend) => {
  let server: Pick<Server, 'url' | 'remove'>;

  beforeAll(async () => {
    server = await backend.start();
  }, 30_000);

  afterAll(() => server.remove());

  /** Has a request's tasks run in a worker, until so many attempts have ended. */
  async function mail(platform: Platform, address: string, attempts: number): Promise<void> {
    const queue = `test-${randomUUID()}`;
    const { http } = await createApp(platform, moduleWith(engineOn(backend, server.url, { queue, worker: false }), [MailController]));
    await http.post(`/mail/${address}`).expect(201);
    const engine = engineOn(backend, server.url, { queue, worker: { concurrency: 1 } });
    const worker = await NestFactory.createApplicationContext(moduleWith(engine, []), { logger: false });
    await ran.atLeast(attempts);
    await worker.close();
  }

  it.each(platforms)('continue the trace of their request, on %s', async (platform) => {
    await mail(platform, 'somebody', 2);
    expect(telemetry.spanNames).toEqual(['POST', 'SMTP somebody', 'background task mail', 'SMTP a-copy', 'background task mail']);
    const [request, smtp, task] = telemetry.spans;
    expect(new Set(telemetry.spans.map((span) => span.spanContext().traceId)).size).toBe(1);
    expect(task!.parentSpanContext).toMatchObject({ spanId: request!.spanContext().spanId, isRemote: true });
    expect(smtp!.parentSpanContext?.spanId).toBe(task!.spanContext().spanId);
    expect(task!.kind).toBe(SpanKind.CONSUMER);
    expect(task!.attributes).toEqual({ 'background_task.name': 'mail', 'background_task.attempt': 1 });
  });

  it('have a span, a count and events on the tracing channel for each attempt', async () => {
    await mail('Express', 'nobody', 3);
    const attempts = telemetry.spans.filter(({ name }) => name === 'background task mail');
    expect(attempts.map(({ attributes, status }) => [attributes['background_task.attempt'], status.code])).toEqual([
      [1, SpanStatusCode.ERROR],
      [1, SpanStatusCode.UNSET],
      [2, SpanStatusCode.ERROR],
    ]);
    expect(new Set(telemetry.spans.map((span) => span.spanContext().traceId)).size).toBe(1);
    const measured = await telemetry.collect();
    expect(measured['background_tasks.ended']).toEqual({ 'mail RangeError': 2, mail: 1 });
    const failed = [
      'start',
      'end',
      'error RangeError: no such mailbox',
      'asyncStart RangeError: no such mailbox',
      'asyncEnd RangeError: no such mailbox',
    ];
    const completed = ['start', 'end', 'asyncStart', 'asyncEnd'];
    expect(events).toEqual([...failed, ...completed, ...failed].map((event) => `mail ${event}`));
  });
});

describe.each(platforms)('tasks that the engine does not take, on %s,', (platform) => {
  it('are published on the tracing channel as discarded, and counted', async () => {
    const away: BackgroundTasksEngine = {
      enqueue: () => Promise.reject(new Error('connection refused')),
      work: () => undefined,
      close: () => Promise.resolve(),
    };
    const { http, runner } = await createApp(platform, moduleWith(away, [MailController], 10));
    await http.post('/mail/somebody').expect(503);
    await runner.onIdle();
    const why = 'Background tasks "mail" (2) did not get to the engine within the flushTimeout of 10 ms; last error: connection refused';
    expect(events).toEqual([`mail discard ${why}`, `mail discard ${why}`]);
    expect(reported.all).toEqual([`mail: BackgroundTasksEngineError: ${why}`, `mail: BackgroundTasksEngineError: ${why}`]);
    const measured = await telemetry.collect();
    expect(measured['background_tasks.discarded']).toEqual({ mail: 2 });
  });
});

describe.each(platforms)('tasks that a worker requeues, on %s,', (platform) => {
  it('have spans that say so, and count neither as completed nor as failed', async () => {
    let host!: EngineHost;
    const engine: BackgroundTasksEngine = {
      enqueue: () => Promise.resolve(),
      work: (handsOutTo) => void (host = handsOutTo),
      close: () => Promise.resolve(),
    };
    await createApp(platform, moduleWith(engine, []));
    const closing = new AbortController();
    const job = { id: 'a job', name: 'endless', provider: 'MailTasks', args: '[]', timeout: undefined, trace: undefined, attempt: 1 };
    const run = host.run(job, closing.signal);
    closing.abort('the worker closes');
    await expect(run).rejects.toMatchObject({ code: 'BACKGROUND_TASK_SHUTDOWN' });
    const [{ attributes, status, events }] = telemetry.spans as [ReadableSpan];
    expect(attributes).toEqual({ 'background_task.name': 'endless', 'background_task.attempt': 1, 'background_task.requeued': true });
    expect({ status, events }).toEqual({ status: { code: SpanStatusCode.UNSET }, events: [] });
    const measured = await telemetry.collect();
    expect(measured).not.toHaveProperty(['background_tasks.ended']);
    expect(measured).not.toHaveProperty(['background_tasks.duration']);
  });
});
