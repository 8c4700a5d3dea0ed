// Guarantees 1, 3 and 4: tasks run or are discarded once, after the response, on every path that a response may take.
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { PassThrough, Readable } from 'node:stream';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
  BadRequestException,
  type CallHandler,
  type CanActivate,
  Catch,
  Controller,
  Delete,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  HttpCode,
  type INestApplication,
  Injectable,
  Module,
  type NestInterceptor,
  Param,
  ParseIntPipe,
  Redirect,
  Render,
  Res,
  Sse,
  StreamableFile,
  UseFilters,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { EMPTY, type Observable, catchError, concat, of, retry, tap, throwError } from 'rxjs';
import { createApp, isNest12, platforms } from '../support/app.js';
import { Client } from '../support/client.js';
import { type Gate, gate } from '../support/gate.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';
import { turns } from '../support/turns.js';

// Every way that a response can go: its tasks start after the last byte, and each one is run or discarded, once, as the outcome says.

const client = new Client();
afterAll(() => client.close());

/** The tasks that ran, each with whether the client had the whole response when it began. */
let ran: string[];

/** Blocks the event loop, as a heavy synchronous task does, until the client has its last byte. */
function record(name: string): void {
  ran.push(client.hasLastByte() ? name : `${name} before the last byte`);
}

function addTasks(tasks: BackgroundTasks): void {
  addOutcomeTasks(tasks, record);
}

/** The part of both platforms' responses that this spec uses. */
interface Reply {
  readonly raw: ServerResponse;
  status(code: number): this;
  send(body?: unknown): void;
  hijack(): void;
}

const circular: { self?: unknown } = {};
circular.self = circular;

async function* failing(): AsyncGenerator<string> {
  yield 'first';
  await halfway.opened;
  throw new Error('half-way');
}

function webStreamOf(chunks: AsyncGenerator<string>): ReadableStream<string> {
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

/** Opened once the client has the first bytes. */
let halfway: Gate;

@Controller()
class SuccessController {
  @Get('json')
  json(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return { ok: true };
  }

  @Delete('empty')
  @HttpCode(204)
  empty(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
  }

  @Get('redirect')
  @Redirect('/json')
  redirect(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
  }

  @Get('render')
  @Render('greeting')
  render(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return { name: 'Ada' };
  }

  @Get('file')
  file(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return new StreamableFile(Readable.from(['first', 'last'], { objectMode: false }));
  }

  @Get('slow-file')
  slowFile(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    const stream = new PassThrough();
    stream.write('first');
    void halfway.opened.then(() => stream.end('last'));
    return new StreamableFile(stream);
  }

  @Sse('events')
  events(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return of({ data: 'first' }, { data: 'last' });
  }

  @Get('manual')
  manual(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    response.status(200).send('by hand');
  }

  @Get('passthrough')
  passthrough(@Res({ passthrough: true }) response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    response.status(202);
    return 'by Nest';
  }

  @Get('send-then-more')
  async sendThenMore(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    const over = once(response.raw ?? response, 'close');
    response.status(200).send('sent');
    await over;
    await turns();
    tasks.addTask(record, 'more');
  }

  @Get('hijacked')
  hijacked(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    response.hijack();
    response.raw.write('first');
    void halfway.opened.then(() => response.raw.end('last'));
  }

  @Get('one-value')
  oneValue(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return of('one');
  }

  @Get('several-values')
  severalValues(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return of('one', 'two');
  }

  @Get('generator')
  async *generator(@BackgroundTasks() tasks: BackgroundTasks) {
    yield 'first';
    await halfway.opened;
    addTasks(tasks);
    yield 'last';
  }
}

@Controller()
class OwnErrorsController {
  @Get('http-code')
  @HttpCode(404)
  httpCode(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return 'none';
  }

  @Get('passthrough-status')
  passthroughStatus(@Res({ passthrough: true }) response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    response.status(422);
    return 'invalid';
  }

  @Get('manual-status')
  manualStatus(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    response.status(409).send('conflict');
  }

  @Get('manual-status-later')
  manualStatusLater(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    void turns().then(() => response.status(500).send('sorry'));
  }
}

@Injectable()
class FailingInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      tap(() => {
        throw new Error('interceptor');
      }),
    );
  }
}

/** Global, so that the interceptors of controllers and methods are inside of it. */
@Injectable()
class FailingOuterInterceptor extends FailingInterceptor {
  override intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return context.getHandler().name === 'outerInterceptor' ? super.intercept(context, next) : next.handle();
  }
}

@Catch()
class OkFilter implements ExceptionFilter {
  catch(_error: unknown, host: ArgumentsHost) {
    host.switchToHttp().getResponse<Reply>().status(200).send('all is well');
  }
}

@Catch()
class ThrowingFilter implements ExceptionFilter {
  catch() {
    throw new Error('filter');
  }
}

@Controller()
class FailureController {
  @Get('thrown')
  thrown(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    throw new BadRequestException();
  }

  @Get('inner-interceptor')
  @UseInterceptors(FailingInterceptor)
  innerInterceptor(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
  }

  @Get('outer-interceptor')
  outerInterceptor(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
  }

  @Get('ok-filter')
  @UseFilters(OkFilter)
  okFilter(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    throw new Error('handler');
  }

  @Get('throwing-filter')
  @UseFilters(ThrowingFilter)
  throwingFilter(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    throw new Error('handler');
  }

  @Get('circular')
  circular(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return circular;
  }

  @Get('bigint')
  bigint(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return { big: 1n };
  }

  @Get('manual-circular')
  manualCircular(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    response.send(circular);
  }

  @Get('broken-view')
  @Render('broken')
  brokenView(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
  }

  @Get('no-value')
  noValue(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return EMPTY;
  }

  @Get('error-value')
  errorValue(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return concat(
      of('one'),
      throwError(() => new Error('observable')),
    );
  }

  @Get('missing-file')
  missingFile(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return new StreamableFile(
      new Readable({
        read() {
          this.destroy(new Error('ENOENT'));
        },
      }),
    );
  }

  @Get('broken-file')
  brokenFile(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return new StreamableFile(Readable.from(failing(), { objectMode: false }));
  }

  @Get('broken-generator')
  async *brokenGenerator(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    yield* failing();
  }

  @Get('broken-generator-that-adds-late')
  async *brokenGeneratorThatAddsLate(@BackgroundTasks() tasks: BackgroundTasks) {
    yield 'first';
    addTasks(tasks);
    yield* failing();
  }

  @Get('generator-that-fails-first')
  async *generatorThatFailsFirst(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    yield await Promise.reject<string>(new Error('first'));
  }

  @Get('web-response')
  webResponse(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return new Response(webStreamOf(failing()).pipeThrough(new TextEncoderStream()));
  }

  @Sse('broken-events')
  brokenEvents(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return concat(
      of({ data: 'first' }),
      throwError(() => new Error('event')),
    );
  }
}

/** Adds the tasks of routes whose handler is never reached. */
@Injectable()
class AddingGuard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}

  canActivate(context: ExecutionContext): boolean {
    addTasks(this.tasks);
    return context.getHandler().name !== 'denied';
  }
}

@Injectable()
class CacheInterceptor implements NestInterceptor {
  intercept(): Observable<unknown> {
    return of('cached');
  }
}

@Controller()
@UseGuards(AddingGuard)
class GuardedController {
  @Get('denied')
  denied() {}

  @Get('pipe/:id')
  pipe(@Param('id', ParseIntPipe) _id: number) {}

  @Get('cached')
  @UseInterceptors(CacheInterceptor)
  cached() {}
}

@Injectable()
class SwallowInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(catchError(() => of('swallowed')));
  }
}

@Injectable()
class RetryInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry(1));
  }
}

@Controller()
class RescuedController {
  #attempts = 0;

  @Get('swallowed')
  @UseInterceptors(SwallowInterceptor)
  swallowed(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    throw new Error('handler');
  }

  @Get('retried')
  @UseInterceptors(RetryInterceptor)
  retried(@BackgroundTasks() tasks: BackgroundTasks) {
    this.#attempts += 1;
    if (this.#attempts === 1) throw new Error('first attempt');
    addTasks(tasks);
    return `attempt ${this.#attempts}`;
  }
}

@Module({
  imports: [BackgroundTasksModule],
  controllers: [SuccessController, OwnErrorsController, RescuedController, FailureController, GuardedController],
})
class PathsModule {}

/** A view engine in a line, on each platform. */
function useViews(app: INestApplication): void {
  const view = (name: string, data: { name?: string }): string => {
    if (name === 'broken') throw new Error('view');
    return `Hello ${data.name}`;
  };
  const instance = app.getHttpAdapter().getInstance();
  if (app.getHttpAdapter().getType() === 'fastify') {
    instance.decorateReply('view', function (this: Reply, name: string, data: { name?: string }) {
      this.send(view(name, data));
    });
    return;
  }
  instance.set(
    'view',
    class {
      readonly path = 'in memory';
      constructor(readonly name: string) {}
      render(data: { name?: string }, done: (error: unknown, html?: string) => void) {
        try {
          done(null, view(this.name, data));
        } catch (error) {
          done(error);
        }
      }
    },
  );
}

beforeEach(() => {
  ran = [];
  halfway = gate();
});

describe.each(platforms)('tasks after a response of %s', (platform) => {
  interface Row {
    readonly path: string;
    readonly method?: string;
    readonly status: number | undefined;
    readonly body?: string;
    readonly cut?: boolean;
  }

  const succeed: Record<string, Row> = {
    JSON: { path: '/json', status: 200, body: '{"ok":true}' },
    'an empty 204': { path: '/empty', method: 'DELETE', status: 204, body: '' },
    HEAD: { path: '/json', method: 'HEAD', status: 200, body: '' },
    '@Redirect()': { path: '/redirect', status: 302 },
    '@Render()': { path: '/render', status: 200, body: 'Hello Ada' },
    'a file': { path: '/file', status: 200, body: 'firstlast' },
    'a file that takes its time': { path: '/slow-file', status: 200, body: 'firstlast' },
    '@Sse() to its end': { path: '/events', status: 200 },
    'a manual @Res()': { path: '/manual', status: 200, body: 'by hand' },
    '@Res({ passthrough: true })': { path: '/passthrough', status: 202, body: 'by Nest' },
    'an observable of one value': { path: '/one-value', status: 200, body: 'one' },
    'an observable of several values': { path: '/several-values', status: 200, body: 'two' },
    '@HttpCode(404)': { path: '/http-code', status: 404, body: 'none' },
    'a 422 through @Res({ passthrough: true })': { path: '/passthrough-status', status: 422, body: 'invalid' },
    'a manual 409': { path: '/manual-status', status: 409, body: 'conflict' },
    'an exception that an interceptor swallows': { path: '/swallowed', status: 200, body: 'swallowed' },
    'an exception after which an interceptor retries': { path: '/retried', status: 200, body: 'attempt 2' },
    'an answer that an interceptor has cached': { path: '/cached', status: 200, body: 'cached' },
    'a manual 500 after the handler returned': { path: '/manual-status-later', status: 500, body: 'sorry' },
  };
  if (platform === 'Fastify') succeed['reply.hijack()'] = { path: '/hijacked', status: 200, body: 'firstlast' };
  if (isNest12) succeed['an async generator'] = { path: '/generator', status: 200, body: 'firstlast' };

  const fail: Record<string, Row> = {
    'an exception': { path: '/thrown', status: 400 },
    'a guard that denies': { path: '/denied', status: 403 },
    'a pipe that refuses': { path: '/pipe/x', status: 400 },
    'an exception in an inner interceptor': { path: '/inner-interceptor', status: 500 },
    'an exception in an outer interceptor': { path: '/outer-interceptor', status: 500 },
    'an exception that a filter answers with 200': { path: '/ok-filter', status: 200, body: 'all is well' },
    'an exception in a filter': { path: '/throwing-filter', status: 500 },
    'a value that JSON cannot express: circular': { path: '/circular', status: 500 },
    'a value that JSON cannot express: BigInt': { path: '/bigint', status: 500 },
    'a manual value that JSON cannot express': { path: '/manual-circular', status: 500 },
    'a view that throws': { path: '/broken-view', status: 500 },
    'an observable of no value': { path: '/no-value', status: 500 },
    'an observable that ends in an error': { path: '/error-value', status: 500 },
    'a file that cannot be opened': { path: '/missing-file', status: platform === 'Express' ? 400 : 500 },
    'a file that fails half-way': { path: '/broken-file', status: 200, body: 'first', cut: true },
    'an event stream that fails half-way': { path: '/broken-events', status: 200 },
  };
  if (isNest12) {
    fail['an async generator that fails half-way'] = { path: '/broken-generator', status: 200, body: 'first', cut: true };
    fail['an async generator that adds tasks and fails half-way'] = { path: '/broken-generator-that-adds-late', status: 200, cut: true };
    fail['an async generator that fails at once'] = { path: '/generator-that-fails-first', status: 500 };
    fail['a web Response that fails half-way'] = { path: '/web-response', status: 200, body: 'first', cut: true };
  }

  async function exchange({ path, method = 'GET', status, body, cut = false }: Row) {
    const { url, runner, logs } = await createApp(platform, PathsModule, {
      configure: (app) => {
        useViews(app);
        app.useGlobalInterceptors(new FailingOuterInterceptor());
      },
    });
    const { begun, over } = client.send({ type: 'http1', url: url + path, method });
    void begun.then(() => halfway.open());
    const answer = await over;
    await runner.onIdle();
    expect(answer).toEqual({ status, body: body ?? answer.body, complete: !cut });
    expect(runner.discardedCount).toBe(1);
    // None of them counts as late.
    expect(logs.of('warn')).toEqual([]);
  }

  it.each(Object.entries(succeed))('%s is a success', async (_name, row) => {
    await exchange(row);
    expect(ran).toEqual(['success', 'always']);
  });

  it('a manual @Res() whose handler goes on after the last byte is a success, and may still add tasks', async () => {
    await exchange({ path: '/send-then-more', status: 200, body: 'sent' });
    expect(ran).toEqual(['success', 'always', 'more']);
  });

  it.each(Object.entries(fail))('%s is a failure', async (_name, row) => {
    await exchange(row);
    expect(ran).toEqual(['failure', 'always']);
  });
});
