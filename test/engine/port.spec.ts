// Guarantee 10: under 'before-response', the answer goes out only after the engine has the tasks; a failure of the engine is not silent.
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type CanActivate,
  Controller,
  Get,
  Inject,
  Injectable,
  type MessageEvent,
  Module,
  NotFoundException,
  Post,
  Res,
  Sse,
  UseGuards,
} from '@nestjs/common';
import {
  BackgroundTask,
  BackgroundTasks,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  BackgroundTasksShutdownError,
  type EngineEntry,
  type EngineHost,
  type EngineJob,
  type FlushMode,
} from 'nestjs-background-tasks';
import { type Observable, from } from 'rxjs';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';

// The promises of the core for any engine, shown with an engine that the test controls.

/** Takes entries when its gate is open, and refuses as often as it is told to. */
class TestEngine implements BackgroundTasksEngine {
  /** Each attempt to hand entries over. */
  readonly attempts = new Recorder<readonly EngineEntry[]>();
  readonly taken: EngineEntry[] = [];
  gate: Gate = gate();
  refusals = 0;
  refusal: unknown = new Error('not now');
  closed = 0;
  /** Where its worker would have tasks run. */
  host!: EngineHost;

  async enqueue(entries: readonly EngineEntry[], signal: AbortSignal): Promise<void> {
    this.attempts.add(entries);
    if (this.refusals-- > 0) throw this.refusal;
    await this.gate.opened;
    signal.throwIfAborted();
    this.taken.push(...entries);
  }

  work(host: EngineHost): undefined {
    this.host = host;
  }

  async close(): Promise<void> {
    this.closed += 1;
  }

  get takenCalls(): string[] {
    return this.taken.map(({ name, args }) => `${name} ${args}`);
  }
}

let engine: TestEngine;
let log: string[];
let reported: string[];

beforeEach(() => {
  engine = new TestEngine();
  log = [];
  reported = [];
});

@Injectable()
class MailTasks {
  @BackgroundTask('mail', { attempts: 3, backoff: 100, timeout: 5_000 })
  mail(...args: unknown[]): void {
    log.push(`in process: ${args.join()}`);
  }

  @BackgroundTask('held')
  async held(): Promise<void> {
    log.push('started');
    await engine.gate.opened;
    log.push('ended');
  }

  @BackgroundTask('brief', { timeout: 2 })
  async brief(): Promise<void> {
    await engine.gate.opened;
  }

  @BackgroundTask('after', { flush: 'after-response' })
  after(): void {}

  @BackgroundTask('on-failure', { runOn: 'failure' })
  onFailure(): void {}

  @BackgroundTask('always', { runOn: 'always' })
  always(): void {}
}

class Denied implements CanActivate {
  constructor(@Inject(BackgroundTasks) private readonly tasks: BackgroundTasks) {}

  canActivate(): boolean {
    this.tasks.addTask(MailTasks.prototype.always);
    return false;
  }
}
Injectable()(Denied);

const noop = () => undefined;

@Controller()
class MailController {
  constructor(@Inject(MailTasks) private readonly tasks: MailTasks) {}

  @Get('ping')
  ping() {
    return 'pong';
  }

  @Post('mail')
  mail(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => log.push('plain task'));
    tasks.addTask(this.tasks.mail, 'a', { subject: 'b' });
    tasks.addTask(this.tasks.mail, 'c');
    return 'answer';
  }

  @Post('many')
  many(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.mail);
    for (let n = 0; n < 100_000; n += 1) tasks.addTask(noop);
  }

  @Post('each-way')
  eachWay(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.mail, 1);
    tasks.addTask(this.tasks.after);
    tasks.addTask({ flush: 'after-response' }, this.tasks.mail, 2);
    tasks.addTask({ flush: 'before-response' }, this.tasks.after);
    return 'answer';
  }

  @Post('outcomes')
  outcomes(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.mail);
    tasks.addTask(this.tasks.onFailure);
    tasks.addTask(this.tasks.always);
  }

  @Get('missing')
  missing(@BackgroundTasks() tasks: BackgroundTasks) {
    this.outcomes(tasks);
    throw new NotFoundException();
  }

  @UseGuards(Denied)
  @Get('denied')
  denied() {}

  @Get('by-hand')
  byHand(@BackgroundTasks() tasks: BackgroundTasks, @Res() response: { send(body: string): void }) {
    tasks.addTask(this.tasks.mail);
    response.send('by hand');
  }

  @Sse('events')
  events(@BackgroundTasks() tasks: BackgroundTasks): Observable<MessageEvent> {
    const mail = this.tasks.mail;
    async function* events(): AsyncGenerator<MessageEvent> {
      for (const data of ['one', 'two']) {
        tasks.addTask(mail, data);
        yield { data };
      }
      tasks.addTask(mail, 'end');
    }
    return from(events());
  }

  @Get('late')
  late(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => {
      tasks.addTask(this.tasks.mail, 1);
      tasks.addTask(this.tasks.mail, 2);
    });
  }

  @Get('pending')
  pending(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.tasks.mail);
    return tasks.tasks.map(({ name }) => name);
  }
}

function moduleOf(options: BackgroundTasksModuleOptions = {}) {
  @Module({
    imports: [
      BackgroundTasksModule.forRootAsync({
        useFactory: () => ({
          engine,
          onError: (error, task) => reported.push(`${task.name}: ${(error as Error).message}`),
          ...options,
        }),
      }),
    ],
    controllers: [MailController],
    providers: [MailTasks],
  })
  class AppModule {}

  return AppModule;
}

describe.each(platforms)('an engine on %s', (platform) => {
  it('has the tasks before the client has its answer, all in one go, each with an id of its own', async () => {
    const { http, runner } = await createApp(platform, moduleOf());
    let answered = false;
    const response = http
      .post('/mail')
      .expect(201, 'answer')
      .then(() => (answered = true));
    const [entries] = await engine.attempts.atLeast(1);
    expect(entries).toEqual(
      ['["a",{"subject":"b"}]', '["c"]'].map((args) => ({
        id: expect.stringMatching(/^[0-9a-f-]{36}$/),
        name: 'mail',
        provider: 'MailTasks',
        args,
        timeout: 5_000,
        options: { attempts: 3, backoff: 100 },
      })),
    );
    expect(new Set(entries!.map(({ id }) => id)).size).toBe(2);
    expect(runner.pendingCount).toBe(3);
    // By the time that another request has its answer, this one would have had its own.
    await http.get('/ping').expect(200, 'pong');
    expect({ answered, log }).toEqual({ answered: false, log: [] });

    engine.gate.open();
    await response;
    await runner.onIdle();
    expect(engine.attempts.all).toHaveLength(1);
    expect(log).toEqual(['plain task']);
  });

  it("does not keep the client waiting under 'after-response'", async () => {
    const { http, runner } = await createApp(platform, moduleOf({ flush: 'after-response' }));
    await http.post('/mail').expect(201, 'answer');
    await engine.attempts.atLeast(1);
    expect(engine.taken).toEqual([]);
    expect(runner.pendingCount).toBeGreaterThanOrEqual(2);
    engine.gate.open();
    await runner.onIdle();
    expect(engine.takenCalls).toEqual(['mail ["a",{"subject":"b"}]', 'mail ["c"]']);
    expect(log).toEqual(['plain task']);
  });

  it.each<[FlushMode, string[][]]>([
    [
      'before-response',
      [
        ['mail [1]', 'after []'],
        ['after []', 'mail [2]'],
      ],
    ],
    ['after-response', [['after []'], ['mail [1]', 'after []', 'mail [2]']]],
  ])('takes the option flush from the task, else from its method, else from the module: %s', async (flush, expected) => {
    const { http, runner } = await createApp(platform, moduleOf({ flush }));
    engine.gate.open();
    await http.post('/each-way').expect(201);
    await runner.onIdle();
    expect(engine.attempts.all.map((entries) => entries.map(({ name, args }) => `${name} ${args}`))).toEqual(expected);
  });

  it('gets only the tasks that the outcome allows', async () => {
    const { http, runner } = await createApp(platform, moduleOf());
    engine.gate.open();
    await http.post('/outcomes').expect(201);
    expect(engine.takenCalls).toEqual(['mail []', 'always []']);
    await http.get('/missing').expect(404);
    expect(engine.takenCalls.slice(2)).toEqual(['on-failure []', 'always []']);
    await runner.onIdle();
    expect(runner.discardedCount).toBe(2);
  });

  it('gets the tasks of a denying guard after the response', async () => {
    const { http, runner } = await createApp(platform, moduleOf());
    engine.gate.open();
    await http.get('/denied').expect(403);
    await runner.onIdle();
    expect(engine.takenCalls).toEqual(['always []']);
  });

  it('gets the tasks of a handler that answers by hand after the response, which cannot be held back', async () => {
    const { http, runner } = await createApp(platform, moduleOf());
    await http.get('/by-hand').expect(200, 'by hand');
    engine.gate.open();
    await runner.onIdle();
    expect(engine.takenCalls).toEqual(['mail []']);
  });

  it('has the tasks that were added before an event of a stream when the event is sent', async () => {
    const { http, runner } = await createApp(platform, moduleOf());
    engine.gate.open();
    const { text } = await http.get('/events').expect(200);
    expect(text.match(/data: \w+/g)).toEqual(['data: one', 'data: two']);
    expect(engine.takenCalls).toEqual(['mail ["one"]', 'mail ["two"]', 'mail ["end"]']);
    await runner.onIdle();
  });

  // Within the time that a test has: to look through what is left before each task would take minutes.
  it('takes a list with very many other tasks without looking through it for each', async () => {
    const { http, runner } = await createApp(platform, moduleOf());
    engine.gate.open();
    await http.post('/many').expect(201);
    await runner.onIdle();
    expect(engine.takenCalls).toEqual(['mail []']);
  });

  it('gets the tasks that a task adds, in one call', async () => {
    const { http, runner } = await createApp(platform, moduleOf());
    engine.gate.open();
    await http.get('/late').expect(200);
    await runner.onIdle();
    expect(engine.takenCalls).toEqual(['mail [1]', 'mail [2]']);
    expect(engine.attempts.all).toHaveLength(1);
  });

  it('is offered the same entries again when it refuses', async () => {
    const { http, runner } = await createApp(platform, moduleOf());
    engine.refusals = 2;
    engine.gate.open();
    await http.post('/mail').expect(201, 'answer');
    const [first, ...others] = engine.attempts.all;
    expect(others).toEqual([first, first]);
    expect(engine.taken).toEqual(first);
    await runner.onIdle();
    expect(reported).toEqual([]);
  });

  it.each([
    ['refuses', 'last error: not now', () => (engine.refusals = Infinity)],
    [
      'refuses with what cannot be put into text',
      'last error: [Object: null prototype] {}',
      () => Object.assign(engine, { refusals: Infinity, refusal: Object.create(null) }),
    ],
    ['does not answer', 'no answer', () => undefined],
  ])('that %s in time makes the request fail, and none of its tasks run', async (_how, what, misbehave) => {
    const { http, runner, logs } = await createApp(platform, moduleOf({ flushTimeout: 30 }));
    misbehave();
    const { body, headers } = await http.post('/mail').expect(503);
    expect(body).toEqual({ statusCode: 503, message: 'Service Unavailable' });
    expect(headers['retry-after']).toBe('1');
    await runner.onIdle();
    const error = `Background tasks "mail" (2) did not get to the engine within the flushTimeout of 30 ms; ${what}`;
    expect(reported).toEqual([`mail: ${error}`, `mail: ${error}`]);
    expect(logs.lines.filter(({ level }) => level === 'error')).toEqual([{ level: 'error', message: error, stack: undefined }]);
    expect(logs.of('debug')).toEqual([
      'Background task "anonymous" was discarded: it runs on success, and the outcome of its request was failure',
    ]);

    // Aborted tasks are not sent later without the client's knowledge, and the next request starts with the current state of the engine.
    engine.refusals = 0;
    engine.gate.open();
    await http.post('/mail').expect(201);
    await runner.onIdle();
    expect(engine.taken).toHaveLength(2);
    expect(log).toEqual(['plain task']);
  });

  it('that fails does not hide what the handler failed with', async () => {
    const { http, runner } = await createApp(platform, moduleOf({ flushTimeout: 30 }));
    engine.refusals = Infinity;
    await http.get('/missing').expect(404);
    await runner.onIdle();
    expect(reported.map((line) => line.replace(/:.*/, ''))).toEqual(['on-failure', 'always']);
  });

  it("that fails 'after-response' is reported, and the client never knows", async () => {
    const { http, runner } = await createApp(platform, moduleOf({ flush: 'after-response', flushTimeout: 30 }));
    engine.refusals = Infinity;
    await http.post('/mail').expect(201, 'answer');
    await runner.onIdle();
    expect(reported).toHaveLength(2);
    expect(log).toEqual(['plain task']);
  });

  it('is awaited when the application closes, and then closed', async () => {
    const { app, http } = await createApp(platform, moduleOf({ flush: 'after-response' }));
    await http.post('/mail').expect(201);
    await engine.attempts.atLeast(1);
    const closed = app.close();
    engine.gate.open();
    await closed;
    expect({ taken: engine.taken.length, closed: engine.closed, reported }).toEqual({ taken: 2, closed: 1, reported: [] });
  });

  it('that does not answer does not keep the application from closing, and its tasks are reported', async () => {
    const { app, http } = await createApp(platform, moduleOf({ flush: 'after-response', shutdownTimeout: 10 }));
    await http.post('/mail').expect(201);
    await engine.attempts.atLeast(1);
    await app.close();
    const error =
      'Background tasks "mail" (2) did not get to the engine: the application shuts down, and its shutdownTimeout of 10 ms is over; no answer';
    expect(reported).toEqual([`mail: ${error}`, `mail: ${error}`]);
  });
});

describe('the arguments of a task for an engine', () => {
  class Money {
    constructor(readonly cents: number) {}
  }
  const cycle: Record<string, unknown> = {};
  cycle.self = { cycle };
  const one = {};
  const twice = [one, one];

  const argumentsObject = (function (): IArguments {
    return arguments;
  })();

  function nested(levels: number): object {
    let outer = {};
    for (let level = 1; level < levels; level++) outer = { inner: outer };
    return outer;
  }

  /** The arguments that a handler passes to `addTask`, and the error that it gets. */
  let given: unknown[];

  @Controller()
  class ArgumentsController {
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      try {
        tasks.addTask(MailTasks.prototype.mail, ...given);
      } catch (error) {
        return (error as Error).message;
      }
      // Too late to be seen.
      for (const arg of given) if (Array.isArray(arg)) arg.push('later');
      return 'taken';
    }
  }

  async function answerTo(...args: unknown[]): Promise<string> {
    given = args;
    @Module({
      imports: [BackgroundTasksModule.forRootAsync({ useFactory: () => ({ engine }) })],
      controllers: [ArgumentsController],
      providers: [MailTasks],
    })
    class ArgumentsModule {}

    engine.gate.open();
    const { http } = await createApp('Express', ArgumentsModule);
    return (await http.get('/').expect(200)).text;
  }

  it.each<[string, unknown[], string]>([
    ['text, numbers, booleans, null', ['a', 1.5, true, null], '["a",1.5,true,null]'],
    ['nested arrays and objects', [[{ a: [1, { b: 'c' }] }]], '[[{"a":[1,{"b":"c"}]}]]'],
    ['an object without a prototype', [Object.assign(Object.create(null), { a: 1 })], '[{"a":1}]'],
    ['what is undefined at the end, so that defaults apply', ['a', undefined, undefined], '["a"]'],
    ['a property that is undefined', [{ a: undefined, b: 1 }], '[{"b":1}]'],
    ['text that Postgres would not take as JSON', ['\u0000 \ud800'], '["\\u0000 \\ud800"]'],
    ['the same object twice', [twice, twice], '[[{},{}],[{},{}]]'],
    ['a few hundred objects within each other', [nested(400)], `[${JSON.stringify(nested(400))}]`],
    ['a key with a name that objects have', [JSON.parse('{"__proto__":1,"toString":2}')], '[{"__proto__":1,"toString":2}]'],
  ])('are copied when the task is added: %s', async (_what, args, expected) => {
    await expect(answerTo(...args)).resolves.toBe('taken');
    expect(engine.taken.map((entry) => entry.args)).toEqual([expected]);
  });

  it.each<[string, unknown[], string]>([
    [
      'a function',
      [{ a: { b: () => 1 } }],
      'args[0].a.b of background task "mail" to survive JSON on its way to the engine, got a function',
    ],
    [
      'undefined in an array',
      [1, [undefined]],
      'args[1][0] of background task "mail" to survive JSON on its way to the engine, got `undefined`',
    ],
    ['undefined in front', [undefined, 1], 'args[0] of'],
    ['a hole', [[1, , 2]], 'args[0][1] of'], // eslint-disable-line no-sparse-arrays
    ['NaN', [{ 'a b': NaN }], 'args[0]["a b"] of background task "mail" to survive JSON on its way to the engine, got `NaN` (number)'],
    ['Infinity', [-Infinity], 'got `-Infinity` (number)'],
    ['a bigint', [1n], 'got a bigint'],
    ['a symbol', [Symbol('s')], 'got a symbol'],
    [
      'a date',
      [{ at: new Date(0) }],
      'args[0].at of background task "mail" to survive JSON on its way to the engine, got an instance of Date: pass `date.toISOString()`',
    ],
    ['a map', [new Map()], 'args[0] of'],
    ['a buffer', [Buffer.from('a')], 'args[0] of'],
    ['an instance', [new Money(1)], 'args[0] of'],
    ['an error', [new Error('secret')], 'args[0] of'],
    [
      'an object that contains itself',
      [cycle],
      'args[0].self.cycle of background task "mail" to survive JSON on its way to the engine, got an object that contains itself',
    ],
    ['a promise', [Promise.resolve()], 'got a promise'],
    [
      'a negative zero',
      [{ a: [-0] }],
      'args[0].a[0] of background task "mail" to survive JSON on its way to the engine, got `-0` (number)',
    ],
    [
      'an array of a class',
      [new (class Ids extends Array {})()],
      'args[0] of background task "mail" to survive JSON on its way to the engine, got an array;',
    ],
    [
      'an array with properties',
      [Object.assign(['a'], { total: 1 })],
      'args[0] of background task "mail" to survive JSON on its way to the engine, got an array with keys that JSON leaves out',
    ],
    ['an array that writes itself', [Object.assign(['a'], { toJSON: () => 'b' })], 'got an array with keys that JSON leaves out'],
    [
      'a key that is a symbol',
      [{ a: { [Symbol('s')]: 1 } }],
      'args[0].a of background task "mail" to survive JSON on its way to the engine, got an object with keys that JSON leaves out',
    ],
    ['a key that is not enumerable', [Object.defineProperty({}, 'a', { value: 1 })], 'got an object with keys that JSON leaves out'],
    ['the arguments of a function', [argumentsObject], 'got an object with keys that JSON leaves out'],
    ['objects within each other without end', [nested(200_000)], 'got more than 500 levels of nested objects'],
  ])('are refused if JSON would change them, with the path: %s', async (_what, args, message) => {
    const answer = await answerTo(...args);
    expect(answer).toContain(message);
    expect(answer).toMatch(
      /^Expected .*; pass strings, finite numbers, booleans, null, and arrays and plain objects of these, such as an id to load the rest$/,
    );
    expect(answer).not.toContain('secret');
    expect(engine.attempts.all).toEqual([]);
  });
});

it('a task that waits for an engine counts as pending', async () => {
  const { http, url } = await createApp('Express', moduleOf({ maxPending: 1 }));
  const first = fetch(`${url}/pending`);
  await engine.attempts.atLeast(1);
  await http.get('/pending').expect(503);
  engine.gate.open();
  expect(await (await first).json()).toEqual(['mail']);
  await http.get('/pending').expect(200);
});

describe.each(platforms)('a task that an engine has a worker run, on %s,', (platform) => {
  const never = new AbortController().signal;

  /** A job as another process has written it, or as somebody else has. */
  function jobOf(job: { [Key in keyof EngineJob]?: unknown }): EngineJob {
    return {
      id: 'a job',
      name: 'mail',
      provider: 'MailTasks',
      args: '[]',
      timeout: undefined,
      trace: undefined,
      attempt: 1,
      ...job,
    } as EngineJob;
  }

  function start(options: BackgroundTasksModuleOptions = {}) {
    return createApp(
      platform,
      moduleOf({
        onError: (error, task) => reported.push(`${task.name}, attempt ${task.attempt}: ${(error as Error).message}`),
        ...options,
      }),
    );
  }

  it('runs on its provider, with its arguments', async () => {
    await start();
    await engine.host.run(jobOf({ args: '["a",1]' }), never);
    expect({ log, reported }).toEqual({ log: ['in process: a,1'], reported: [] });
  });

  it.each<[string, Parameters<typeof jobOf>[0]]>([
    ['no arguments', { args: undefined }],
    ['no text', { args: { card: 4242 } }],
    ['no JSON', { args: '["4242' }],
    ['no array', { args: '{"card":"4242"}' }],
    ['text', { args: '"4242"' }],
    ['a timeout that is none', { timeout: '4242' }],
  ])('fails with a report if this package has not written it, and quotes none of it: %s', async (_what, data) => {
    const { logs } = await start();
    const message =
      'Background task "mail" came from the engine with data that this package did not write: expected its `args` to be an array, as JSON, ' +
      'and its `timeout`, if any, milliseconds; remove the job from the queue, and add jobs to that queue only with addTask()';
    await expect(engine.host.run(jobOf({ ...data, attempt: 2 }), never)).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_INVALID_TASK',
      message,
    });
    expect({ log, reported }).toEqual({ log: [], reported: [`mail, attempt 2: ${message}`] });
    expect(logs.of('error')).toEqual([`${message} (attempt 2, 1 more than its option \`attempts\` allows, job a job)`]);
    expect(JSON.stringify(logs.lines)).not.toContain('4242');
  });

  it.each(['no-such-task', ''])('fails with a report if no provider has it: "%s"', async (name) => {
    await start();
    const message = expect.stringContaining(`no provider of this application has a @BackgroundTask("${name}") method`);
    await expect(engine.host.run(jobOf({ name, attempt: 2 }), never)).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_INVALID_TASK',
      message,
    });
    expect(reported).toEqual([expect.stringMatching(new RegExp(`^${name}, attempt 2: `))]);
  });

  it.each(['["a"]', '["4242', undefined])('is reported when the engine fails it by itself, whatever its data is: %s', async (args) => {
    await start();
    engine.host.failed(jobOf({ args, attempt: 3 }), new Error('stalled too often'));
    expect({ log, reported }).toEqual({ log: [], reported: ['mail, attempt 3: stalled too often'] });
  });

  it.each([
    ['its own', 'brief', 1, 1],
    ["its method's", 'brief', undefined, 2],
    ["the module's", 'held', undefined, 30],
  ])('is aborted at a timeout: %s', async (_whose, name, timeout, expected) => {
    await start({ timeout: 30 });
    await expect(engine.host.run(jobOf({ name, timeout }), never)).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_TIMEOUT',
      timeout: expected,
    });
  });

  it('is requeued when the signal fires: it has not failed', async () => {
    const { logs } = await start();
    const closing = new AbortController();
    const run = engine.host.run(jobOf({ name: 'held' }), closing.signal);
    closing.abort('the worker closes');
    await expect(run).rejects.toEqual(new BackgroundTasksShutdownError('held', 'was aborted: the worker closes'));
    expect({ log, reported }).toEqual({ log: ['started'], reported: [] });
    expect(logs.of('warn')).toEqual(['Background task "held" (job a job) was requeued, and will run again: the worker closes']);
  });

  it('does not start when the signal has fired', async () => {
    const { logs } = await start();
    const run = engine.host.run(jobOf({ name: 'held' }), AbortSignal.abort('the worker closes'));
    await expect(run).rejects.toEqual(new BackgroundTasksShutdownError('held', 'was aborted: the worker closes'));
    expect({ log, reported }).toEqual({ log: [], reported: [] });
    expect(logs.of('warn')).toEqual(['Background task "held" (job a job) was requeued, and will run again: the worker closes']);
  });
});
