// Guarantees 1 and 3: tasks start after the last byte of their own response, once, whatever the protocol and the connection.
import { EventEmitter, once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { connect } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { PassThrough } from 'node:stream';
import { afterAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, Req, StreamableFile } from '@nestjs/common';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { Client } from '../support/client.js';
import { type Gate, gate } from '../support/gate.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';
import { turns } from '../support/turns.js';

const client = new Client();
afterAll(() => client.close());

let ran: string[];
/** How many listeners each request finds on its connection. */
let listeners: number[];
let first: Gate;
let second: Gate;
let added: Gate;

/** The work of the tasks. */
let run: (name: string) => void;

/** Blocks the event loop, as a heavy synchronous task does, until the client has its last byte. */
function afterLastByte(name: string): void {
  ran.push(client.hasLastByte() ? name : `${name} before the last byte`);
}

@Controller()
class PathsController {
  @Get('json')
  json(@BackgroundTasks() tasks: BackgroundTasks) {
    addOutcomeTasks(tasks, run);
    return { ok: true };
  }

  @Get('file')
  file(@BackgroundTasks() tasks: BackgroundTasks) {
    addOutcomeTasks(tasks, run);
    const stream = new PassThrough();
    stream.write('first');
    void first.opened.then(() => stream.end('last'));
    return new StreamableFile(stream);
  }

  @Get('queued')
  queued(@BackgroundTasks() tasks: BackgroundTasks) {
    addOutcomeTasks(tasks, (name) => afterLastByte(`queued ${name}`));
    second.open();
    return { ok: true };
  }

  @Get('queued-until-the-client-has-left')
  async queuedUntilLeft(@Req() request: IncomingMessage, @BackgroundTasks() tasks: BackgroundTasks) {
    const left = once(request.socket, 'close');
    second.open();
    await left;
    await turns();
    tasks.addTask(() => ran.push('queued'));
    added.open();
  }

  @Get('counted')
  counted(@Req() request: IncomingMessage, @BackgroundTasks() tasks: BackgroundTasks) {
    addOutcomeTasks(tasks, run);
    listeners.push(request.socket.listenerCount('close'));
  }

  @Get('big')
  big(@BackgroundTasks() tasks: BackgroundTasks) {
    addOutcomeTasks(tasks, run);
    return 'x'.repeat(20_000_000);
  }

  @Get('thrown')
  thrown(@BackgroundTasks() tasks: BackgroundTasks) {
    addOutcomeTasks(tasks, run);
    throw new Error('handler');
  }

  @Get('late')
  late(@Req() request: { raw?: { stream: NodeJS.EventEmitter } }, @BackgroundTasks() tasks: BackgroundTasks) {
    void once(request.raw!.stream, 'close').then(() => {
      tasks.addTask(run, 'late');
      added.open();
    });
    const stream = new PassThrough();
    stream.write('first');
    void first.opened.then(() => stream.end('last'));
    return new StreamableFile(stream);
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [PathsController] })
class PathsModule {}

beforeEach(() => {
  ran = [];
  listeners = [];
  run = afterLastByte;
  first = gate();
  second = gate();
  added = gate();
});

describe.each(platforms)('tasks on %s', (platform) => {
  it.each(['/json', '/file', '/big'])('run after a response on a connection that closes: %s', async (path) => {
    const { url, runner } = await createApp(platform, PathsModule);
    const { begun, over } = client.send({ type: 'http1', url: url + path, method: 'GET', headers: { connection: 'close' } });
    void begun.then(first.open);
    expect(await over).toMatchObject({ status: 200, complete: true });
    await runner.onIdle();
    expect(ran).toEqual(['success', 'always']);
  });

  it('run after each response on a connection that is kept alive', async () => {
    const { url, runner } = await createApp(platform, PathsModule);
    for (const path of ['/json', '/thrown', '/json']) {
      await client.send({ type: 'http1', url: url + path, method: 'GET' }).over;
      await runner.onIdle();
    }
    expect(ran).toEqual(['success', 'always', 'failure', 'always', 'success', 'always']);
  });

  it.each(['/json', '/file'])('run after a response to HTTP/1.0, whose end is the end of the connection: %s', async (path) => {
    const { url, runner } = await createApp(platform, PathsModule);
    const { begun, over } = client.send({ type: 'raw', url, text: `GET ${path} HTTP/1.0\r\n\r\n` });
    void begun.then(first.open);
    expect(await over).toMatchObject({ complete: true });
    await runner.onIdle();
    expect(ran).toEqual(['success', 'always']);
  });
});

describe.each(platforms)('tasks of pipelined requests on %s', (platform) => {
  // The other requests are handled at once, and their responses wait for that of the first.
  const pipeline = (...paths: string[]): string =>
    ['/file', ...paths].map((path) => `GET ${path} HTTP/1.1\r\nHost: x\r\n`).join('\r\n') + 'Connection: close\r\n\r\n';

  beforeEach(() => {
    run = (name) => ran.push(name);
  });

  it('run after the response of their own request', async () => {
    const { url, runner } = await createApp(platform, PathsModule);
    const { over } = client.send({ type: 'raw', url, text: pipeline('/queued') });
    await second.opened;
    await turns();
    expect(ran).toEqual([]);
    first.open();
    await over;
    await runner.onIdle();
    expect(ran.toSorted()).toEqual(['always', 'queued always', 'queued success', 'success']);
  });

  it('run once the client has left, although the queued response never learns of it', async () => {
    const { url, runner } = await createApp(platform, PathsModule);
    const { begun, over } = client.send({ type: 'raw', url, text: pipeline('/queued') });
    await Promise.all([begun, second.opened]);
    client.leave();
    await over;
    await runner.onIdle();
    expect(ran.toSorted()).toEqual(['always', 'queued always', 'queued success', 'success']);
    expect(runner.discardedCount).toBe(2);
  });

  it('run when the first is added after the client has left', async () => {
    const { url, runner } = await createApp(platform, PathsModule);
    const { begun, over } = client.send({ type: 'raw', url, text: pipeline('/queued-until-the-client-has-left') });
    await Promise.all([begun, second.opened]);
    client.leave();
    await over;
    await added.opened;
    await runner.onIdle();
    expect(ran.toSorted()).toEqual(['always', 'queued', 'success']);
  });

  it('share one listener on the connection, or Node would warn of a leak', async () => {
    const { url, runner } = await createApp(platform, PathsModule);
    const { begun, over } = client.send({ type: 'raw', url, text: pipeline(...Array<string>(20).fill('/counted')) });
    void begun.then(first.open);
    await over;
    await runner.onIdle();
    expect(ran).toHaveLength(42);
    expect(Math.max(...listeners)).toBeLessThanOrEqual(EventEmitter.defaultMaxListeners);
  });
});

describe('tasks on Fastify', () => {
  describe('over HTTP/2', () => {
    const http2App = () => createApp('Fastify', PathsModule, { adapter: new FastifyAdapter({ http2: true }) });

    it.each([
      ['/json', 200, ['success', 'always']],
      ['/file', 200, ['success', 'always']],
      ['/big', 200, ['success', 'always']],
      ['/thrown', 500, ['failure', 'always']],
    ])('run after the response: %s', async (path, status, expected) => {
      const { url, runner } = await http2App();
      const { begun, over } = client.send({ type: 'http2', url: url + path, method: 'GET' });
      void begun.then(first.open);
      expect(await over).toMatchObject({ status, complete: true });
      await runner.onIdle();
      expect(ran).toEqual(expected);
      expect(runner.discardedCount).toBe(1);
    });

    it('run after the client has left', async () => {
      const { url, runner } = await http2App();
      const { begun, over } = client.send({ type: 'http2', url: `${url}/file`, method: 'GET' });
      await begun;
      client.leave();
      expect(await over).toMatchObject({ complete: false });
      await runner.onIdle();
      expect(ran).toEqual(['success', 'always']);
    });

    it.each(['stays', 'goes'])('run after the client has closed its stream without an error, and %s: Node tells nobody', async (what) => {
      const { app, url, runner } = await http2App();
      run = (name) => ran.push(name);
      const served = once(app.getHttpServer(), 'session');
      const socket = connectSocket(Number(new URL(url).port), '127.0.0.1');
      const session = connect(url, { createConnection: () => socket });
      // It does not read on, so that most of the answer waits.
      const stream = session.request({ ':path': '/big' });
      await once(stream, 'response');
      expect(ran).toEqual([]);
      stream.close();
      if (what === 'goes') session.close(() => socket.destroy());
      await runner.onIdle();
      expect(ran).toEqual(['success', 'always']);
      session.destroy();
      socket.destroy();
      // Node would not, and the server would not close.
      const [serverSession] = await served;
      serverSession.destroy();
    });

    it.each(['has its answer', 'has left'])('run when the first is added after the client %s', async (how) => {
      const { url, runner } = await http2App();
      const { begun, over } = client.send({ type: 'http2', url: `${url}/late`, method: 'GET' });
      await begun;
      if (how === 'has left') client.leave();
      else first.open();
      await over;
      await added.opened;
      await runner.onIdle();
      expect(ran).toEqual(['late']);
    });
  });

  it.each([
    ['/json', 200, ['success', 'always']],
    ['/thrown', 500, ['failure', 'always']],
  ])('run after inject() has its answer: %s', async (url, statusCode, expected) => {
    const { app, runner } = await createApp('Fastify', PathsModule);
    run = (name) => ran.push(name);
    const response = await (app as NestFastifyApplication).inject(url).then((answer) => {
      ran.push('answered');
      return answer;
    });
    expect(response.statusCode).toBe(statusCode);
    await runner.onIdle();
    expect(ran).toEqual(['answered', ...expected]);
    expect(runner.discardedCount).toBe(1);
  });
});
