import { inspect } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { BadRequestException, Controller, Get, Module, Param } from '@nestjs/common';
import { SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { BackgroundTasksOpenTelemetryModule } from 'nestjs-background-tasks/opentelemetry';
import { createApp, platforms } from './support/app.js';
import { type Gate, gate } from './support/gate.js';
import { Telemetry } from './support/telemetry.js';

const telemetry = new Telemetry();

let opened: Gate;

beforeAll(() => telemetry.start());
afterAll(() => telemetry.stop());

beforeEach(async () => {
  opened = gate();
  await telemetry.reset();
});

async function charge(_card: string): Promise<void> {
  await opened.opened;
  // What an instrumented database would do.
  trace.getTracer('database').startSpan('INSERT').end();
}

@Controller('orders')
class OrdersController {
  @Get(':id')
  order(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(charge, '4242 4242 4242 4242');
    tasks.addTask({ name: 'refund', runOn: 'failure' }, charge, '4242 4242 4242 4242');
    if (id === '0') throw new BadRequestException();
  }

  @Get(':id/:failure')
  failing(@Param('failure') failure: keyof typeof failures, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ name: failure, timeout: 1 }, failures[failure]);
  }
}

class HostileError extends Error {
  override get message(): string {
    throw new Error('gotcha');
  }
}

const failures = {
  throws: () => {
    throw new RangeError('card declined');
  },
  rejects: () => Promise.reject(new RangeError('card declined')),
  times_out: () => opened.opened,
  no_error: () => Promise.reject('card declined'),
  hostile: () => Promise.reject(new HostileError()),
};

@Module({ imports: [BackgroundTasksModule, BackgroundTasksOpenTelemetryModule], controllers: [OrdersController] })
class AppModule {}

describe.each(platforms)('OpenTelemetry on %s', (platform) => {
  it('a task is a span, child of the request, that is active inside the task', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    await http.get('/orders/1').expect(200);
    opened.open();
    await runner.onIdle();
    expect(telemetry.spanNames).toEqual(['GET', 'INSERT', 'background task charge']);
    expect(telemetry.span('background task charge').parentSpanContext?.spanId).toBe(telemetry.span('GET').spanContext().spanId);
    expect(telemetry.span('INSERT').parentSpanContext?.spanId).toBe(telemetry.span('background task charge').spanContext().spanId);
    expect(telemetry.span('background task charge').attributes).toEqual({ 'background_task.name': 'charge' });
    expect(telemetry.span('background task charge').kind).toBe(SpanKind.INTERNAL);
    expect(telemetry.span('background task charge').status).toEqual({ code: SpanStatusCode.UNSET });
  });

  it('the span of the request ends with the response, and not with the task', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    await http.get('/orders/1').expect(200);
    expect(telemetry.spanNames).toEqual(['GET']);
    opened.open();
    await runner.onIdle();
    expect(telemetry.spanNames).toEqual(['GET', 'INSERT', 'background task charge']);
  });

  it.each([
    ['throws', 'RangeError', 'card declined'],
    ['rejects', 'RangeError', 'card declined'],
    ['times_out', 'BackgroundTasksTimeoutError', expect.stringContaining('did not end within its timeout of 1 ms')],
    ['no_error', '_OTHER', `'card declined'`],
    ['hostile', 'Error', 'an error that cannot be printed'],
  ])('a task that fails ends its span, and not that of the request, with an error: %s', async (failure, type, message) => {
    const { http, runner } = await createApp(platform, AppModule);
    await http.get(`/orders/1/${failure}`).expect(200);
    await runner.onIdle();
    const { attributes, status, events } = telemetry.span(`background task ${failure}`);
    expect(attributes).toEqual({ 'background_task.name': failure, 'error.type': type });
    expect(status).toEqual({ code: SpanStatusCode.ERROR, message });
    expect(events).toMatchObject([{ name: 'exception', attributes: { 'exception.type': type, 'exception.message': message } }]);
    expect(telemetry.span('GET').status.code).toBe(SpanStatusCode.UNSET);
    const measured = await telemetry.collect();
    expect(measured['background_tasks.ended']).toEqual({ [`${failure} ${type}`]: 1 });
    expect(measured['background_tasks.duration']).toEqual({ [`${failure} ${type}`]: 1 });
  });

  it('arguments are in no span', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    await http.get('/orders/1').expect(200);
    opened.open();
    await runner.onIdle();
    expect(inspect(telemetry.spans, { depth: 10 })).not.toContain('4242');
  });

  it('tasks are counted by name, and their duration measured', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    opened.open();
    for (const id of [0, 1, 2, 3]) await http.get(`/orders/${id}`);
    await runner.onIdle();
    const measured = await telemetry.collect();
    expect(measured['background_tasks.ended']).toEqual({ charge: 3, refund: 1 });
    expect(measured['background_tasks.discarded']).toEqual({ charge: 1, refund: 3 });
    expect(measured['background_tasks.duration']).toEqual({ charge: 3, refund: 1 });
  });

  it('gauges say how many tasks run and wait in the applications of the process', async () => {
    const [first, second] = [await createApp(platform, AppModule), await createApp(platform, AppModule)];
    await first.http.get('/orders/1').expect(200);
    await second.http.get('/orders/1').expect(200);
    const atWork = await telemetry.collect();
    expect(atWork['background_tasks.active']).toEqual({ '': 2 });
    expect(atWork['background_tasks.pending']).toEqual({ '': 2 });
    opened.open();
    await Promise.all([first.runner.onIdle(), second.runner.onIdle()]);
    const idle = await telemetry.collect();
    expect(idle['background_tasks.active']).toEqual({ '': 0 });
    expect(idle['background_tasks.pending']).toEqual({ '': 0 });
  });

  it('two applications trace a task once, and the last one that closes ends it', async () => {
    const [first, second] = [await createApp(platform, AppModule), await createApp(platform, AppModule)];
    await first.app.close();
    await second.http.get('/orders/1').expect(200);
    opened.open();
    await second.runner.onIdle();
    expect(telemetry.spanNames).toEqual(['GET', 'INSERT', 'background task charge']);
    await second.app.close();
    await new BackgroundTask(charge, '4242').run();
    expect(telemetry.spanNames).toEqual(['GET', 'INSERT', 'background task charge', 'INSERT']);
    expect(await telemetry.collect()).not.toHaveProperty(['background_tasks.active']);
  });
});
