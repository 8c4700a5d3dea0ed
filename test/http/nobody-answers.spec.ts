// Guarantee 3: every list is run or discarded once, also if the client has left and nobody ends the response.
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse, request as send } from 'node:http';
import { connect } from 'node:net';
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type ArgumentsHost,
  type CanActivate,
  Catch,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  Injectable,
  type MiddlewareConsumer,
  Module,
  type NestMiddleware,
  type NestModule,
  Post,
  UseFilters,
  UseGuards,
} from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { type TestApp, createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';
import { Recorder } from '../support/recorder.js';

let ran: string[];
let reached: Recorder<string>;
/** Opened when a guard that takes its time is to go on. */
let goOn: Gate;

const record = (name: string): void => void ran.push(name);

beforeEach(() => {
  ran = [];
  reached = new Recorder();
  goOn = gate();
});

const rawOf = <Message>(message: Message & { raw?: Message }): Message => message.raw ?? message;

/** Adds tasks, and answers clients that are still there, as what serves files or passes requests on does. */
@Injectable()
class PoliteMiddleware implements NestMiddleware {
  constructor(private readonly tasks: BackgroundTasks) {}

  async use(request: IncomingMessage & { originalUrl: string }, response: ServerResponse, next: () => void) {
    if (!request.originalUrl.startsWith('/middleware')) return next();
    addOutcomeTasks(this.tasks, record);
    reached.add('middleware');
    if (request.originalUrl.endsWith('stays')) return response.end('answered');
    await once(request.socket, 'close');
    return undefined;
  }
}

@Catch()
class PoliteFilter implements ExceptionFilter {
  catch(_error: unknown, host: ArgumentsHost) {
    const response = host.switchToHttp().getResponse();
    if (rawOf<ServerResponse>(response).destroyed) return;
    response.status(400).send('refused');
  }
}

@Injectable()
class UploadGuard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = rawOf<IncomingMessage>(context.switchToHttp().getRequest());
    addOutcomeTasks(this.tasks, record);
    reached.add('guard');
    if (request.url === '/upload') {
      // An upload that is cut off never ends.
      await new Promise((resolve) => request.resume().once('end', resolve));
      return true;
    }
    await once(request.socket, 'close');
    if (request.url === '/denied') throw new Error('guard');
    await goOn.opened;
    return true;
  }
}

@Controller()
@UseGuards(UploadGuard)
class GuardedController {
  @Post('upload')
  upload() {}

  @Get('denied')
  @UseFilters(PoliteFilter)
  denied() {}

  @Get('slow')
  slow(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ name: 'of the handler' }, record, 'of the handler');
    tasks.addTask({ name: 'of its failure', runOn: 'failure' }, record, 'of its failure');
    reached.add('handler');
  }
}

@Controller('plain')
class PlainController {
  @Get()
  plain(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ name: 'plain' }, record, 'plain');
  }
}

@Module({
  imports: [BackgroundTasksModule.forRoot({ maxPending: 60 })],
  controllers: [GuardedController, PlainController],
})
class PoliteModule implements NestModule {
  configure(consumer: MiddlewareConsumer): void {
    consumer.apply(PoliteMiddleware).forRoutes('{*path}');
  }
}

describe.each(platforms)('when a client has left and nobody answers on %s', (platform) => {
  /** Sends a request, and leaves when it has got to where its tasks are added. */
  async function leave(app: TestApp, path: string, method = 'GET'): Promise<void> {
    const already = reached.all.length;
    const request = begin(app, path, method);
    await reached.atLeast(already + 1);
    request.destroy();
  }

  function begin({ url }: TestApp, path: string, method = 'GET') {
    const request = send(url + path, { method, agent: false, headers: method === 'POST' ? { 'content-length': 10 } : {} });
    request.on('error', () => {});
    request.flushHeaders();
    if (method === 'GET') request.end();
    return request;
  }

  it.each([
    ['middleware', '/middleware', 'GET'],
    ['a filter', '/denied', 'GET'],
    // Fastify reads the body itself before any guard.
    ...(platform === 'Express' ? [['a guard that reads an upload', '/upload', 'POST']] : []),
  ])('%s: the tasks run or are discarded, as of a failure', async (_name, path, method) => {
    const app = await createApp(platform, PoliteModule);
    await leave(app, path!, method);
    await app.runner.onIdle();
    expect(ran).toEqual(['failure', 'always']);
    expect(app.runner.discardedCount).toBe(1);
    expect(app.logs.of('warn')).toEqual([]);
  });

  it('the tasks of many such requests free their room under maxPending', async () => {
    const app = await createApp(platform, PoliteModule);
    const requests = Array.from({ length: 20 }, () => begin(app, '/middleware'));
    await reached.atLeast(20);
    await app.http.get('/plain').expect(503);
    for (const request of requests) request.destroy();
    await app.runner.onIdle();
    await app.http.get('/plain').expect(200);
    await app.runner.onIdle();
    expect(ran.filter((name) => name === 'always')).toHaveLength(20);
    expect(app.runner).toMatchObject({ pendingCount: 0, discardedCount: 20 });
  });

  it('such requests do not delay the shutdown', async () => {
    const app = await createApp(platform, PoliteModule);
    await leave(app, '/middleware');
    await app.app.close();
    expect(ran).toEqual(['failure', 'always']);
  });

  it('a handler that is reached after all has its own outcome', async () => {
    const app = await createApp(platform, PoliteModule);
    await leave(app, '/slow');
    await app.runner.onIdle();
    expect(ran).toEqual(['failure', 'always']);
    goOn.open();
    await reached.containing('handler');
    await app.runner.onIdle();
    expect(ran).toEqual(['failure', 'always', 'of the handler']);
    expect(app.runner.discardedCount).toBe(2);
    expect(app.logs.of('warn')).toEqual([]);
  });

  it('a client that stays has its middleware judged by the status', async () => {
    const app = await createApp(platform, PoliteModule);
    await app.http.get('/middleware/stays').expect(200, 'answered');
    await app.runner.onIdle();
    expect(ran).toEqual(['success', 'always']);
  });

  it('the tasks of clients that pipeline and leave run as well', async () => {
    const app = await createApp(platform, PoliteModule);
    const socket = connect(Number(new URL(app.url).port), '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET /middleware HTTP/1.1\r\nHost: a\r\n\r\nGET /middleware HTTP/1.1\r\nHost: a\r\n\r\n');
    await reached.atLeast(2);
    socket.destroy();
    await app.runner.onIdle();
    expect(ran.sort()).toEqual(['always', 'always', 'failure', 'failure']);
  });
});
