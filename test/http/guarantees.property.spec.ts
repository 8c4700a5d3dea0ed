// Guarantees 1 to 4 and 8: random requests, whose tasks each run or are discarded once, in order, after the response, before databases
// disconnect.
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, get } from 'node:http';
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  Catch,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  HttpException,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestInterceptor,
  type NestMiddleware,
  type NestModule,
  type OnModuleDestroy,
  Param,
  RequestTimeoutException,
  StreamableFile,
  UseFilters,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import fc from 'fast-check';
import { NEVER, type Observable, catchError, from, ignoreElements, map, merge, take } from 'rxjs';
import { type Platform, createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { turns } from '../support/turns.js';

setFlagsFromString('--expose-gc');
const gc: () => void = runInNewContext('gc');

// Random requests, all at once, against what the guarantees say of each of them.

interface TaskPlan {
  readonly runOn: 'success' | 'failure' | 'always';
  readonly ends: 'at once' | 'later' | 'throwing' | 'rejecting' | 'at its timeout';
  /** The tasks that it adds. */
  readonly adds: readonly TaskPlan[];
}

interface RequestPlan {
  readonly middleware: readonly TaskPlan[];
  /** 'be polite': it answers, unless the client has left. */
  readonly middlewareDoes: 'pass on' | 'answer' | 'send a file' | 'be polite';
  readonly guard: readonly TaskPlan[];
  readonly handler: readonly TaskPlan[];
  /** 'when closing': it answers no sooner than the application has begun to close. */
  readonly handlerEnds: 'at once' | 'later' | 'when closing';
  readonly answer: 'value' | 'stream' | 'exception' | 'denied';
  /** The value that an interceptor answers as soon as the handler has begun, whatever the handler does. */
  readonly interceptorGivesUp: 'never' | 'with an error' | 'with a value';
  /** True if the exception filter answers clients that have left. */
  readonly filterIsPolite: boolean;
  /** Where the request is when its client leaves. */
  readonly clientLeaves: 'never' | 'in the middleware' | 'in the guard' | 'in the handler';
}

interface Scenario {
  readonly concurrency: number;
  readonly onTaskFailure: 'continue' | 'stop';
  readonly requests: readonly RequestPlan[];
}

const task = (adds: fc.Arbitrary<readonly TaskPlan[]>): fc.Arbitrary<TaskPlan> =>
  fc.record({
    runOn: fc.constantFrom('success', 'failure', 'always'),
    ends: fc.constantFrom('at once', 'later', 'throwing', 'rejecting', 'at its timeout'),
    adds,
  });
const tasks = fc.array(task(fc.array(task(fc.constant([])), { maxLength: 2 })), { maxLength: 3 });

const scenarios: fc.Arbitrary<Scenario> = fc.record({
  concurrency: fc.constantFrom(1, 2, Infinity),
  onTaskFailure: fc.constantFrom('continue', 'stop'),
  requests: fc.array(
    fc.record({
      middleware: tasks,
      middlewareDoes: fc.oneof(
        { arbitrary: fc.constant('pass on' as const), weight: 3 },
        { arbitrary: fc.constantFrom('answer' as const, 'send a file' as const, 'be polite' as const), weight: 2 },
      ),
      guard: tasks,
      handler: tasks,
      handlerEnds: fc.constantFrom('at once', 'later', 'when closing'),
      answer: fc.constantFrom('value', 'stream', 'exception', 'denied'),
      interceptorGivesUp: fc.constantFrom('never', 'with an error', 'with a value'),
      filterIsPolite: fc.boolean(),
      clientLeaves: fc.constantFrom('never', 'in the middleware', 'in the guard', 'in the handler'),
    }),
    { minLength: 1, maxLength: 5 },
  ),
});

const STATUS = { value: 200, stream: 200, exception: 500, denied: 403 };

function statusOf({ middlewareDoes, answer, interceptorGivesUp }: RequestPlan): number {
  if (middlewareDoes !== 'pass on') return 200;
  if (answer === 'denied' || interceptorGivesUp === 'never') return STATUS[answer];
  return interceptorGivesUp === 'with a value' ? 200 : 408;
}

/** How far a request gets. */
function reaches({ middlewareDoes, answer }: RequestPlan, where: 'guard' | 'handler'): boolean {
  return middlewareDoes === 'pass on' && (where === 'guard' || answer !== 'denied');
}

function succeeds(plan: RequestPlan): boolean {
  if (plan.middlewareDoes === 'be polite') return plan.clientLeaves === 'never';
  return statusOf(plan) === 200;
}

/** The events that the guarantees prescribe for the tasks of a request, in order. */
function expected(plan: RequestPlan, onTaskFailure: Scenario['onTaskFailure']): string[] {
  const list = [
    ...named(plan.middleware, 'middleware'),
    ...(reaches(plan, 'guard') ? named(plan.guard, 'guard') : []),
    ...(reaches(plan, 'handler') ? named(plan.handler, 'handler') : []),
  ];
  const outcome = succeeds(plan) ? 'success' : 'failure';
  const events: string[] = [];
  let stopped = false;
  for (const { name, plan } of list) {
    if (stopped || (plan.runOn !== 'always' && plan.runOn !== outcome)) {
      events.push(`discarded ${name}`);
      continue;
    }
    events.push(`ran ${name}`);
    list.push(...named(plan.adds, name));
    if (fails(plan)) {
      events.push(`failed ${name}`);
      stopped = onTaskFailure === 'stop';
    }
  }
  return events;
}

function fails({ ends }: TaskPlan): boolean {
  return ends === 'throwing' || ends === 'rejecting' || ends === 'at its timeout';
}

function named(plans: readonly TaskPlan[], parent: string): { name: string; plan: TaskPlan }[] {
  return plans.map((plan, n) => ({ name: `${parent}.${n}`, plan }));
}

/** One request as it goes. */
class Run {
  readonly inMiddleware = gate();
  readonly inGuard = gate();
  readonly inHandler = gate();
  readonly left = gate();
  readonly events: string[] = [];
  readonly violations: string[] = [];
  response: ServerResponse | undefined;
  #runs = false;

  constructor(
    readonly plan: RequestPlan,
    readonly isConnected: () => boolean,
  ) {}

  add(list: BackgroundTasks, plans: readonly TaskPlan[], parent: string): void {
    for (const { name, plan } of named(plans, parent)) {
      list.addTask({ name, runOn: plan.runOn, timeout: plan.ends === 'at its timeout' ? 1 : undefined }, () => this.#run(list, name, plan));
    }
  }

  #run(list: BackgroundTasks, name: string, plan: TaskPlan): unknown {
    this.events.push(`ran ${name}`);
    this.#hold(this.response!.writableFinished || this.response!.destroyed, `${name} started before the response was over`);
    this.#hold(!this.#runs, `${name} started while another task of its request ran`);
    this.#runs = true;
    const end = (): void => {
      this.#runs = false;
      this.#hold(this.isConnected(), `${name} ran without its database`);
    };
    if (plan.ends === 'at its timeout') {
      currentTask()!.signal.addEventListener('abort', end);
      this.add(list, plan.adds, name);
      return new Promise(() => {});
    }
    const work = (): void => {
      this.add(list, plan.adds, name);
      end();
      if (fails(plan)) throw new Error(name);
    };
    return plan.ends === 'at once' || plan.ends === 'throwing' ? work() : setImmediate().then(work);
  }

  #hold(condition: boolean, violation: string): void {
    if (!condition) this.violations.push(violation);
  }
}

/** The response and the list of each request. */
const held: WeakRef<object>[] = [];

/** Serves the requests of a scenario, closes the application under those that wait for it, and checks what became of their tasks. */
async function check(platform: Platform, { concurrency, onTaskFailure, requests }: Scenario): Promise<void> {
  let connected = true;
  const closing = gate();
  const runs = requests.map((plan) => new Run(plan, () => connected));
  const failures: string[] = [];

  @Injectable()
  class PlanMiddleware implements NestMiddleware {
    constructor(private readonly list: BackgroundTasks) {}

    async use(request: IncomingMessage & { originalUrl: string }, response: ServerResponse, next: () => void) {
      const run = runs[Number(request.originalUrl.slice(1))]!;
      const { middleware, middlewareDoes, clientLeaves } = run.plan;
      response.once('close', run.left.open);
      run.response = response;
      held.push(new WeakRef(response), new WeakRef(this.list));
      run.add(this.list, middleware, 'middleware');
      if (middlewareDoes === 'send a file') {
        const file = Readable.from(clientLeaves === 'never' ? chunks() : endless(run.left.opened));
        file.once('data', run.inMiddleware.open).pipe(response);
        return;
      }
      run.inMiddleware.open();
      if (clientLeaves === 'in the middleware' || (clientLeaves !== 'never' && middlewareDoes !== 'pass on')) await run.left.opened;
      if (middlewareDoes === 'pass on') next();
      else if (middlewareDoes === 'answer' || !response.destroyed) response.end('answered');
    }
  }

  @Injectable()
  class PlanGuard implements CanActivate {
    constructor(private readonly list: BackgroundTasks) {}

    async canActivate(context: ExecutionContext): Promise<boolean> {
      const run = runs[Number(context.switchToHttp().getRequest().params.n)]!;
      run.add(this.list, run.plan.guard, 'guard');
      run.inGuard.open();
      if (run.plan.clientLeaves === 'in the guard') await run.left.opened;
      return run.plan.answer !== 'denied';
    }
  }

  @Injectable()
  class PlanInterceptor implements NestInterceptor {
    intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
      const { plan, inHandler } = runs[Number(context.switchToHttp().getRequest().params.n)]!;
      if (plan.interceptorGivesUp === 'never') return next.handle();
      const unheard = next.handle().pipe(
        ignoreElements(),
        catchError(() => NEVER),
      );
      const answer = from(inHandler.opened).pipe(
        map(() => {
          if (plan.interceptorGivesUp === 'with an error') throw new RequestTimeoutException();
          return 'from elsewhere';
        }),
      );
      return merge(unheard, answer).pipe(take(1));
    }
  }

  @Catch()
  class PlanFilter implements ExceptionFilter {
    catch(error: unknown, host: ArgumentsHost) {
      const http = host.switchToHttp();
      const { plan, response } = runs[Number(http.getRequest().params.n)]!;
      if (plan.filterIsPolite && response!.destroyed) return;
      http
        .getResponse()
        .status(error instanceof HttpException ? error.getStatus() : 500)
        .send('failed');
    }
  }

  @Controller()
  class PlanController {
    @Get(':n')
    @UseGuards(PlanGuard)
    @UseInterceptors(PlanInterceptor)
    @UseFilters(PlanFilter)
    async get(@Param('n') n: string, @BackgroundTasks() list: BackgroundTasks) {
      const run = runs[Number(n)]!;
      const { plan } = run;
      run.inHandler.open();
      if (plan.clientLeaves === 'in the handler') await run.left.opened;
      if (plan.handlerEnds === 'later') await turns();
      if (plan.handlerEnds === 'when closing') await closing.opened;
      run.add(list, plan.handler, 'handler');
      if (plan.answer === 'exception') throw new Error('the handler');
      return plan.answer === 'stream' ? new StreamableFile(Readable.from(chunks())) : 'value';
    }
  }

  @Injectable()
  class Database implements OnModuleDestroy {
    onModuleDestroy() {
      connected = false;
    }
  }

  @Module({
    imports: [
      BackgroundTasksModule.forRoot({
        concurrency,
        onTaskFailure,
        onError: (_, { name }) => void failures.push(name),
      }),
    ],
    controllers: [PlanController],
    providers: [Database],
  })
  class PlanModule implements NestModule {
    configure(consumer: MiddlewareConsumer): void {
      consumer.apply(PlanMiddleware).forRoutes('{*path}');
    }
  }

  const { app, url, runner, logs } = await createApp(platform, PlanModule);

  const answers = runs.map(async (run, n) => {
    const request = get(`${url}/${n}`, { agent: false });
    if (run.plan.clientLeaves === 'never') {
      const [response]: IncomingMessage[] = await once(request, 'response');
      response!.resume();
      return expect(response!.statusCode).toBe(statusOf(run.plan));
    }
    request.on('error', () => {});
    await reached(run).opened;
    request.destroy();
  });
  const waitsForClosing = ({ plan }: Run): boolean => plan.handlerEnds === 'when closing' && reaches(plan, 'handler');
  await Promise.all(answers.map((answer, n) => (waitsForClosing(runs[n]!) ? runs[n]!.inHandler.opened : answer)));
  // A client that has left does not know whether its request is through.
  await Promise.all(runs.filter(({ plan }) => plan.clientLeaves !== 'never').map(({ left }) => left.opened));
  const closed = app.close();
  closing.open();
  await Promise.all(answers);
  await closed;

  for (const run of runs) {
    const happened = expected(run.plan, onTaskFailure);
    expect(run.events).toEqual(happened.filter((event) => event.startsWith('ran')));
    expect(run.violations).toEqual([]);
  }
  const all = runs.flatMap(({ plan }) => expected(plan, onTaskFailure));
  const every = (what: string): string[] =>
    all
      .filter((event) => event.startsWith(what))
      .map((event) => event.slice(what.length + 1))
      .sort();
  const loggedNames = (level: 'debug' | 'error'): string[] =>
    logs
      .of(level)
      .map((message) => message.split('"')[1]!)
      .sort();
  expect(loggedNames('debug')).toEqual(every('discarded'));
  expect(loggedNames('error')).toEqual(every('failed'));
  expect(failures.sort()).toEqual(every('failed'));
  expect(logs.of('warn')).toEqual([]);
  expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0, discardedCount: every('discarded').length });
  // The application, which is not collected before the end of the test, has the runs.
  for (const run of runs) run.response = undefined;
}

async function* chunks(): AsyncGenerator<Buffer> {
  yield Buffer.from('one');
  await turns();
  yield Buffer.from('two');
}

/** A file whose end is not seen: its client leaves. */
async function* endless(left: Promise<void>): AsyncGenerator<Buffer> {
  yield Buffer.from('one');
  await left;
}

/** Where a request has got to when its client leaves, at the latest: it may not get as far as that. */
function reached({ plan, inMiddleware, inGuard, inHandler }: Run): Gate {
  if (plan.clientLeaves === 'in the middleware' || !reaches(plan, 'guard')) return inMiddleware;
  return plan.clientLeaves === 'in the handler' && reaches(plan, 'handler') ? inHandler : inGuard;
}

describe.each(platforms)('random requests on %s', (platform) => {
  it('have every task run once or discarded once, in order, after the response, and before the databases disconnect', async () => {
    await fc.assert(
      fc.asyncProperty(scenarios, (scenario) => check(platform, scenario)),
      { seed: 3, numRuns: 40, endOnFailure: true },
    );
    for (let attempt = 1; held.some((ref) => ref.deref()) && attempt < 5; attempt += 1) {
      await turns();
      gc();
    }
    expect(held.splice(0).filter((ref) => ref.deref()).length).toBe(0);
  }, 60_000);
});
