// Guide: docs/what-a-task-may-use.md, which parts of a request a task still finds.
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Body, Controller, Get, Injectable, Module, Post, Req, Res, UseInterceptors } from '@nestjs/common';
import { ContextIdFactory, ModuleRef } from '@nestjs/core';
import session from 'express-session';
import type { FastifyInstance } from 'fastify';
import {
  BackgroundTask,
  BackgroundTasks,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  type EngineEntry,
  currentTask,
} from 'nestjs-background-tasks';
import { finalize } from 'rxjs';
import { AppModule } from '../../sample/19-what-a-task-may-use/app.module.js';
import { Journal } from '../../sample/19-what-a-task-may-use/journal.js';
import { type TestAppOptions, createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

let seen: unknown[];

beforeEach(() => {
  seen = [];
});

/** A request and a response of either platform, as Node has them. */
type Of<T> = T & { raw?: T };
const raw = <T>(of: Of<T>): T => of.raw ?? of;

/** Bodies of this type reach the handler unread, as on Express. */
const unreadBodies: TestAppOptions = {
  configure(app) {
    const fastify = app.getHttpAdapter().getInstance() as FastifyInstance;
    fastify.addContentTypeParser('application/octet-stream', (_request, _payload, done) => done(null));
  },
};

describe.each(platforms)('sample/19-what-a-task-may-use on %s', (platform) => {
  class InstantJournal extends Journal {
    override async write(...words: unknown[]): Promise<void> {
      this.entries.push(words.join(' '));
    }
  }

  async function createSample(options: TestAppOptions = {}) {
    const journal = new InstantJournal();
    const build: TestAppOptions['build'] = (builder) => builder.overrideProvider(Journal).useValue(journal);
    const sample = await createApp(platform, AppModule, { ...(platform === 'Fastify' && unreadBodies), ...options, build: build! });
    return { ...sample, runner: sample.runner, journal };
  }

  it('values of the request are arguments', async () => {
    const { http, runner, journal } = await createSample();
    await http.post('/visits').set('User-Agent', 'lynx').expect(202);
    await runner.onIdle();
    expect(journal.entries).toEqual(['visit 127.0.0.1 lynx']);
  });

  it('an argument is a reference, unless it was copied', async () => {
    const { http, runner, journal } = await createSample();
    await http.post('/orders').send({ article: 'tea' }).expect(202);
    await runner.onIdle();
    expect(journal.entries).toEqual(['tea received', 'tea answered']);
  });

  it('a body that was read in the handler is there', async () => {
    const { http, runner, journal } = await createSample();
    await http.post('/webhooks').type('application/octet-stream').send(Buffer.alloc(200_000)).expect(202);
    await runner.onIdle();
    expect(journal.entries).toEqual(['received 200000']);
  });

  it('a singleton resolves the list of the request', async () => {
    const { http, runner, journal } = await createSample();
    await http.post('/subscribers/foo@example.com').expect(202);
    await http.post('/subscribers/invalid@example.com').expect(500);
    await runner.onIdle();
    expect(journal.entries).toEqual(['welcome foo@example.com']);
    expect(runner.discardedCount).toBe(1);
  });
});

describe('a session of express-session', () => {
  type Remembering = IncomingMessage & { session: session.Session & Record<string, unknown>; sessionID: string };

  const store = new session.MemoryStore();
  const configure: TestAppOptions['configure'] = (app) =>
    app.use(session({ secret: 'secret', store, resave: false, saveUninitialized: false }));

  @Controller()
  class ForgetfulController {
    @Post('forgetful')
    forget(@Req() request: Remembering, @BackgroundTasks() tasks: BackgroundTasks): void {
      request.session.first = 'handler';
      tasks.addTask(() => void (request.session.second = 'task'));
    }

    @Post('other')
    other(@Req() request: Remembering): void {
      request.session.other = 'another request';
    }
  }

  /** The stored session after a request of this kind. */
  const saved = () => Object.values((store as unknown as { sessions: Record<string, string> }).sessions).map((text) => JSON.parse(text));

  beforeEach(() => {
    (store as unknown as { sessions: object }).sessions = {};
  });

  @Module({ imports: [BackgroundTasksModule], controllers: [ForgetfulController] })
  class ForgetfulModule {}

  it('does not save what a task changes', async () => {
    const { http, runner } = await createApp('Express', ForgetfulModule, { configure: configure! });
    await http.post('/forgetful').expect(201);
    await runner.onIdle();
    expect(saved()).toEqual([{ cookie: expect.anything(), first: 'handler' }]);
  });

  it('is reloaded, changed and saved by the task of the sample', async () => {
    const { http, runner } = await createApp('Express', AppModule, { configure: configure! });
    await http.post('/session').expect(202);
    await runner.onIdle();
    expect(saved()).toEqual([{ cookie: expect.anything(), greeting: 'hello' }]);
  });
});

describe.each(platforms)('after the response on %s, a task finds', (platform) => {
  /** The part that the responses of both platforms share. */
  interface Helpers {
    header(name: string, value: string): void;
    send(body: string): void;
  }

  @Controller()
  class FindingController {
    @Post('body')
    body(@Req() request: Of<IncomingMessage>, @BackgroundTasks() tasks: BackgroundTasks): void {
      tasks.addTask({ name: 'late reader', timeout: 500 }, async () => {
        let bytes = 0;
        for await (const chunk of raw(request) as AsyncIterable<Buffer>) bytes += chunk.length;
        seen.push(bytes);
      });
    }

    @Get('address')
    address(@Req() request: Of<IncomingMessage> & { ip?: string }, @BackgroundTasks() tasks: BackgroundTasks): void {
      tasks.addTask(async () => {
        if (!raw(request).socket.destroyed) await once(raw(request).socket, 'close');
        seen.push(request.ip);
      });
    }

    @Get('closed')
    @UseInterceptors({ intercept: (_context, next) => next.handle().pipe(finalize(() => seen.push('finalize'))) })
    closed(@Res({ passthrough: true }) response: Of<ServerResponse>, @BackgroundTasks() tasks: BackgroundTasks): object {
      tasks.addTask(() => seen.push('task'));
      raw(response).once('finish', () => seen.push('finish'));
      raw(response).once('close', () => seen.push('close'));
      return {};
    }

    @Get('signals')
    signals(
      @Req() request: Of<IncomingMessage>,
      @Res({ passthrough: true }) response: Of<ServerResponse>,
      @BackgroundTasks() tasks: BackgroundTasks,
    ): void {
      const left = [raw(request), raw(response)].map((stream) => {
        const controller = new AbortController();
        stream.once('close', () => controller.abort());
        return controller.signal;
      });
      tasks.addTask(() => seen.push(...[...left, currentTask()!.signal].map((signal) => signal.aborted)));
    }

    @Get('response')
    response(@Res({ passthrough: true }) response: Of<ServerResponse>, @BackgroundTasks() tasks: BackgroundTasks): string {
      tasks.addTask(
        () =>
          new Promise<void>((resolve) =>
            raw(response).write('late', (error) => {
              seen.push((error as NodeJS.ErrnoException).code);
              resolve();
            }),
          ),
      );
      return 'in time';
    }

    @Get('helpers')
    helpers(@Res({ passthrough: true }) response: Helpers, @BackgroundTasks() tasks: BackgroundTasks): void {
      tasks.addTask({ name: 'header' }, () => {
        response.header('X-Late', 'yes');
      });
      tasks.addTask({ name: 'send' }, () => {
        response.send('late');
      });
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [FindingController] })
  class FindingModule {}

  const createFinding = () => createApp(platform, FindingModule, platform === 'Fastify' ? unreadBodies : {});

  const postBytes = async (bytes: number) => {
    const { http, runner, logs } = await createFinding();
    // Each request has a connection of its own, which closes after the response.
    await http.post('/body').type('application/octet-stream').send(Buffer.alloc(bytes)).expect(201);
    await runner.onIdle();
    return logs;
  };

  it('no bytes of a body that nobody read before', async () => {
    await postBytes(100);
    expect(seen).toEqual([0]);
  });

  it('a body of more than 64 KB that nobody read before without its end, if the connection closes', async () => {
    const logs = await postBytes(200_000);
    expect(seen).toEqual([]);
    expect(logs.of('error')).toEqual([expect.stringContaining('"late reader" did not end within its timeout')]);
  });

  it('no address of a client that has closed its connection', async () => {
    const { http, runner } = await createFinding();
    await http.get('/address').expect(200);
    await runner.onIdle();
    expect(seen).toEqual([undefined]);
  });

  it('resources closed that finalize(), "finish" and "close" close', async () => {
    const { url, runner } = await createFinding();
    // A connection that is kept alive leaves "close" to the response.
    expect((await fetch(`${url}/closed`)).status).toBe(200);
    await runner.onIdle();
    expect(seen).toEqual(['finalize', 'finish', 'close', 'task']);
  });

  it('a signal on "close" that has fired, and one of its own that has not', async () => {
    const { http, runner } = await createFinding();
    await http.get('/signals').expect(200);
    await runner.onIdle();
    expect(seen).toEqual([true, true, false]);
  });

  it('a response that accepts no more data', async () => {
    const { http, runner } = await createFinding();
    await http.get('/response').expect(200, 'in time');
    await runner.onIdle();
    expect(seen).toEqual(['ERR_STREAM_WRITE_AFTER_END']);
  });

  it('a response whose header() and send() fail on Express, and are ignored on Fastify', async () => {
    const { http, runner, logs } = await createFinding();
    await http.get('/helpers').expect(200, '');
    await runner.onIdle();
    const failed = ['header', 'send'].map((name) => expect.stringContaining(`"${name}" failed: Cannot set headers after they are sent`));
    expect(logs.of('error')).toEqual(platform === 'Express' ? failed : []);
  });
});

describe.each(platforms)('arguments of a @BackgroundTask() method with an engine on %s', (platform) => {
  const entries: EngineEntry[] = [];
  const engine: BackgroundTasksEngine = {
    enqueue: async (batch) => void entries.push(...batch),
    work: () => undefined,
    close: async () => {},
  };

  @Injectable()
  class Mail {
    @BackgroundTask('mail')
    send(_order: object): void {}
  }

  @Controller()
  class OrdersController {
    constructor(private readonly mail: Mail) {}

    @Post()
    place(@Body() order: { state: string }, @BackgroundTasks() tasks: BackgroundTasks): void {
      tasks.addTask(this.mail.send, order);
      order.state = 'changed';
    }
  }

  @Module({ imports: [BackgroundTasksModule.forRoot({ engine })], controllers: [OrdersController], providers: [Mail] })
  class EngineModule {}

  it('are copied by addTask()', async () => {
    const { http, runner } = await createApp(platform, EngineModule);
    await http.post('/').send({ state: 'as it was' }).expect(201);
    await runner.onIdle();
    expect(entries.splice(0)).toMatchObject([{ args: '[{"state":"as it was"}]' }]);
  });
});

describe.each(platforms)('a list that is resolved without registering the request on %s', (platform) => {
  @Controller()
  class ResolvingController {
    readonly started = gate();

    constructor(private readonly moduleRef: ModuleRef) {}

    @Get()
    async get(@Req() request: object) {
      const tasks = await this.moduleRef.resolve(BackgroundTasks, ContextIdFactory.getByRequest(request), { strict: false });
      tasks.addTask(() => this.started.open());
      await this.started.opened;
      throw new Error('The request fails');
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [ResolvingController] })
  class ResolvingModule {}

  it('belongs to no request: its tasks start at once, also if the request fails', async () => {
    const { http, runner } = await createApp(platform, ResolvingModule);
    await http.get('/').expect(500);
    await runner.onIdle();
    expect(runner.discardedCount).toBe(0);
  });
});
