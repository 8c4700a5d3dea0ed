// Guarantee 3: every list is run or discarded once, also if the client leaves; a client that leaves is no failure by itself.
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { PassThrough, type Readable } from 'node:stream';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import {
  type CanActivate,
  Controller,
  type ExecutionContext,
  Get,
  Injectable,
  Module,
  Req,
  Res,
  Sse,
  StreamableFile,
  UseGuards,
} from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { NEVER, concat, from, map, of } from 'rxjs';
import { createApp, isNest12, platforms } from '../support/app.js';
import { Client } from '../support/client.js';
import { type Gate, gate } from '../support/gate.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';
import { turns } from '../support/turns.js';

// A request whose client has left goes on as long as its handler does, and its tasks run or are discarded after that.

const client = new Client();
afterAll(() => client.close());

let log: string[];
/** Opened once the request is where the client leaves it. */
let reached: Gate;

function addTasks(tasks: BackgroundTasks): void {
  addOutcomeTasks(tasks, (name) => log.push(name));
}

/** The part of both platforms' requests and responses that this spec uses. */
interface Request {
  readonly socket: IncomingMessage['socket'];
}
type Reply = ServerResponse & {
  readonly raw?: ServerResponse;
  send(body: string | Readable): void;
  hijack(): void;
};

/** Resolves when the server has known for a while that the client has left. */
async function clientLeft(request: Request): Promise<void> {
  const left = once(request.socket, 'close');
  reached.open();
  await left;
  log.push('left');
  await turns();
}

@Controller('handler')
class HandlerController {
  @Get('returns')
  async returns(@Req() request: Request, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    await clientLeft(request);
    log.push('handler settles');
    return { ok: true };
  }

  @Get('adds-and-returns')
  async addsAndReturns(@Req() request: Request, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ runOn: 'always' }, () => log.push('added before'));
    await clientLeft(request);
    addTasks(tasks);
    log.push('handler settles');
  }

  @Get('throws')
  async throws(@Req() request: Request, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    await clientLeft(request);
    log.push('handler settles');
    throw new Error('handler');
  }

  @Get('never-answers')
  async neverAnswers(@Req() request: Request, @Res() _response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    await clientLeft(request);
    log.push('handler settles');
  }

  @Get('observable')
  observable(@Req() request: Request, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return from(clientLeft(request)).pipe(map(() => 'value'));
  }
}

@Controller('stream')
class StreamController {
  @Get('file')
  file(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    const stream = new PassThrough();
    stream.write('first');
    return new StreamableFile(stream);
  }

  @Sse('events')
  events(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return concat(of({ data: 'first' }), NEVER);
  }

  @Get('generator')
  async *generator(@BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    yield 'first';
    yield await new Promise<string>(() => {});
  }

  @Get('hijacked')
  hijacked(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    response.hijack();
    response.raw!.write('first');
  }

  @Get('pipe')
  pipe(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    const stream = new PassThrough();
    stream.write('first');
    stream.pipe(response.raw ?? response);
  }

  @Get('and-more')
  async andMore(@Req() request: Request, @Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    const stream = new PassThrough();
    stream.write('first');
    // Fastify destroys the response when the client leaves.
    if (response.raw) response.send(stream);
    else stream.pipe(response);
    await clientLeft(request);
    log.push('handler settles');
  }
}

/** Adds tasks, and decides when the client has left. */
@Injectable()
class SlowGuard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    addTasks(this.tasks);
    await clientLeft(context.switchToHttp().getRequest());
    log.push('guard settles');
    return context.getHandler().name !== 'denied';
  }
}

@Controller('guard')
@UseGuards(SlowGuard)
class GuardedController {
  @Get('denies')
  denied() {}

  @Get('passes')
  passes() {
    log.push('handler settles');
    return 'ok';
  }

  @Get('passes-to-manual')
  manual(@Res() response: Reply) {
    log.push('handler settles');
    response.send('ok');
  }

  @Get('passes-to-manual-that-never-answers')
  neverAnswers(@Res() _response: Reply) {
    log.push('handler settles');
  }

  @Get('passes-to-failure')
  throws() {
    log.push('handler settles');
    throw new Error('handler');
  }

  @Get('passes-to-observable')
  observable() {
    log.push('handler settles');
    return of('value');
  }

  @Get('passes-to-file')
  file() {
    log.push('handler settles');
    return new StreamableFile(new PassThrough());
  }

  @Sse('passes-to-events')
  events() {
    return NEVER;
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [HandlerController, StreamController, GuardedController] })
class LeavingModule {}

beforeEach(() => {
  log = [];
  reached = gate();
});

describe.each(platforms)('tasks of a client that leaves, on %s,', (platform) => {
  async function leave(path: string, when: 'reached' | 'begun') {
    const { url, runner, logs } = await createApp(platform, LeavingModule);
    const { begun, over } = client.send({ type: 'http1', url: url + path, method: 'GET' });
    await (when === 'begun' ? begun : reached.opened);
    client.leave();
    await over;
    await runner.onIdle();
    expect(runner.discardedCount).toBe(1);
    // None of them counts as late.
    expect(logs.of('warn')).toEqual([]);
  }

  it.each([
    ['/handler/returns', ['success', 'always']],
    ['/handler/adds-and-returns', ['added before', 'success', 'always']],
    ['/handler/throws', ['failure', 'always']],
    ['/handler/never-answers', ['success', 'always']],
  ])('wait for the handler if it has not settled: %s', async (path, expected) => {
    await leave(path, 'reached');
    expect(log).toEqual(['left', 'handler settles', ...expected]);
  });

  it('run without waiting for an observable that has no value yet: Nest unsubscribes, which is no failure', async () => {
    await leave('/handler/observable', 'reached');
    expect(log).toEqual(['left', 'success', 'always']);
  });

  const streams = ['/stream/file', '/stream/events', '/stream/pipe'];
  if (isNest12) streams.push('/stream/generator');
  if (platform === 'Fastify') streams.push('/stream/hijacked');

  it.each(streams)('run if the first bytes were out: %s', async (path) => {
    await leave(path, 'begun');
    expect(log).toEqual(['success', 'always']);
  });

  it('wait for a handler that still works after the first bytes', async () => {
    await leave('/stream/and-more', 'begun');
    expect(log).toEqual(['left', 'handler settles', 'success', 'always']);
  });

  it.each([
    ['/guard/denies', ['failure', 'always']],
    ['/guard/passes', ['handler settles', 'success', 'always']],
    ['/guard/passes-to-manual', ['handler settles', 'success', 'always']],
    ['/guard/passes-to-manual-that-never-answers', ['handler settles', 'success', 'always']],
    ['/guard/passes-to-failure', ['handler settles', 'failure', 'always']],
    ['/guard/passes-to-observable', ['handler settles', 'success', 'always']],
    ['/guard/passes-to-file', ['handler settles', 'success', 'always']],
    ['/guard/passes-to-events', ['success', 'always']],
  ])('wait for a slow guard and for what follows it: %s', async (path, expected) => {
    await leave(path, 'reached');
    expect(log).toEqual(['left', 'guard settles', ...expected]);
  });
});
