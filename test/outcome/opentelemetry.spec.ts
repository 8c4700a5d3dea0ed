// Public API: OpenTelemetry spans and metrics. Guarantee 13: an SDK that throws changes no task.
import { setImmediate } from 'node:timers/promises';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { BadRequestException, Controller, Get, Injectable, Module, Param } from '@nestjs/common';
import { DiagLogLevel, SpanKind, SpanStatusCode, type TextMapPropagator, diag, propagation, trace } from '@opentelemetry/api';
import { SamplingDecision } from '@opentelemetry/sdk-trace-node';
import {
  BackgroundTask,
  BackgroundTasks,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  type EngineEntry,
  type EngineHost,
} from 'nestjs-background-tasks';
import { BackgroundTasksOpenTelemetryModule } from 'nestjs-background-tasks/opentelemetry';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Telemetry } from '../support/telemetry.js';

/** The parts of OpenTelemetry that throw. */
let broken: 'sampler' | 'onStart' | 'onEnd' | 'inject' | 'extract' | undefined;

function breaks(part: typeof broken, span = 'background task'): void {
  if (part === broken && span.startsWith('background task')) throw new Error(`${part} is broken`);
}

const telemetry = new Telemetry({
  sampler: {
    shouldSample: (_context, _traceId, span) => {
      breaks('sampler', span);
      return { decision: SamplingDecision.RECORD_AND_SAMPLED };
    },
  },
  spanProcessors: [
    {
      onStart: ({ name }) => breaks('onStart', name),
      onEnd: ({ name }) => breaks('onEnd', name),
      forceFlush: () => Promise.resolve(),
      shutdown: () => Promise.resolve(),
    },
  ],
});

// Jest fails a test for every unhandledRejection and uncaughtException. Node raises them once the microtasks are through.
afterEach(() => setImmediate());

let opened: Gate;

beforeAll(() => telemetry.start());
afterAll(() => telemetry.stop());

beforeEach(async () => {
  broken = undefined;
  opened = gate();
  await telemetry.reset();
});

async function charge(_card: string): Promise<void> {
  await opened.opened;
  // An instrumented database would do this.
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
    expect(inspect(telemetry.spans, { depth: 10 })).not.toContain('4242 4242');
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

  it('without BackgroundTasksModule, boot fails', async () => {
    @Module({ imports: [BackgroundTasksOpenTelemetryModule] })
    class AloneModule {}

    await expect(createApp(platform, AloneModule)).rejects.toMatchObject({ code: 'BACKGROUND_TASK_MODULE_NOT_IMPORTED' });
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

describe.each(platforms)('when OpenTelemetry throws, on %s', (platform) => {
  let ran: string[];
  let reported: string[];
  let entries: EngineEntry[];
  let host: EngineHost;
  /** The lines of OpenTelemetry's own logger. */
  let heard: string[];

  @Injectable()
  class MailTasks {
    @BackgroundTask('mail')
    mail(): void {
      ran.push('mail');
    }
  }

  @Controller()
  class MailController {
    @Get('plain')
    plain(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'returns' }, () => ran.push('returns'));
      tasks.addTask({ name: 'resolves' }, async () => ran.push('resolves'));
      tasks.addTask({ name: 'throws' }, () => {
        ran.push('throws');
        throw new Error('thrown');
      });
      tasks.addTask({ name: 'rejects' }, async () => {
        ran.push('rejects');
        throw new Error('rejected');
      });
      return 'answer';
    }

    @Get('engine')
    engine(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(MailTasks.prototype.mail);
      return 'answer';
    }
  }

  const engine: BackgroundTasksEngine = {
    enqueue: async (given) => void entries.push(...given),
    work: (handsOutTo) => void (host = handsOutTo),
    close: () => Promise.resolve(),
  };

  @Module({
    imports: [
      BackgroundTasksModule.forRoot({ engine, onError: (error, task) => reported.push(`${task.name}: ${(error as Error).message}`) }),
      BackgroundTasksOpenTelemetryModule,
    ],
    controllers: [MailController],
    providers: [MailTasks],
  })
  class MailModule {}

  const propagator: TextMapPropagator = {
    inject: () => breaks('inject'),
    extract: (context) => {
      breaks('extract');
      return context;
    },
    fields: () => [],
  };

  const quiet = () => undefined;

  beforeEach(() => {
    [ran, reported, entries, heard] = [[], [], [], []];
    propagation.disable();
    propagation.setGlobalPropagator(propagator);
    const error = (...args: unknown[]) => heard.push((args.at(-1) as Error).message);
    diag.setLogger({ error, warn: quiet, info: quiet, debug: quiet, verbose: quiet }, DiagLogLevel.ERROR);
  });

  afterEach(() => {
    diag.disable();
    propagation.disable();
  });

  it.each(['sampler', 'onStart', 'onEnd'] as const)('each task runs once, and counts as what it ended as: %s', async (part) => {
    broken = part;
    const { http, runner } = await createApp(platform, MailModule);
    await http.get('/plain').expect(200, 'answer');
    await runner.onIdle();
    expect(ran).toEqual(['returns', 'resolves', 'throws', 'rejects']);
    expect(reported).toEqual(['throws: thrown', 'rejects: rejected']);
    expect(heard).toEqual(Array(4).fill(`${part} is broken`));
    const measured = await telemetry.collect();
    expect(measured['background_tasks.ended']).toEqual({ returns: 1, resolves: 1, 'throws Error': 1, 'rejects Error': 1 });
  });

  it('a logger of its own that throws as well changes nothing', async () => {
    const error = () => {
      throw new Error('cannot write');
    };
    diag.setLogger({ error, warn: quiet, info: quiet, debug: quiet, verbose: quiet }, { suppressOverrideMessage: true });
    broken = 'onEnd';
    const { http, runner } = await createApp(platform, MailModule);
    await http.get('/plain').expect(200, 'answer');
    await runner.onIdle();
    expect(reported).toEqual(['throws: thrown', 'rejects: rejected']);
  });

  it('a task goes to the engine, without a trace: inject', async () => {
    broken = 'inject';
    const { http } = await createApp(platform, MailModule);
    await http.get('/engine').expect(200, 'answer');
    expect(entries).toMatchObject([{ name: 'mail', trace: {} }]);
    expect(heard).toEqual(['inject is broken']);
  });

  it('a task runs in a worker: extract', async () => {
    await createApp(platform, MailModule);
    broken = 'extract';
    const job = {
      id: 'a job',
      name: 'mail',
      provider: 'MailTasks',
      args: '[]',
      timeout: undefined,
      trace: { traceparent: '00-…' },
      attempt: 1,
    };
    await host.run(job, new AbortController().signal);
    expect({ ran, reported, heard }).toEqual({ ran: ['mail'], reported: [], heard: ['extract is broken'] });
  });
});
