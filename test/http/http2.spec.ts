// Guarantee 3: over HTTP/2 as over HTTP/1.1, an answer that is out starts its tasks, although the client leaves its upload open.
import { once } from 'node:events';
import { request as requestOfHttp1 } from 'node:http';
import { connect } from 'node:http2';
import type { Readable, Writable } from 'node:stream';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Module, Post, Req } from '@nestjs/common';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp } from '../support/app.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';

const ran: string[] = [];

beforeEach(() => void ran.splice(0));

/** Looks at the first bytes of an upload, and has seen enough. */
@Controller()
class UploadsController {
  @Post()
  async post(@Req() { raw }: { raw: Readable }, @BackgroundTasks() tasks: BackgroundTasks) {
    await once(raw, 'data');
    addOutcomeTasks(tasks, (name) => ran.push(name));
    return 'enough';
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [UploadsController] })
class UploadsModule {}

/** Begins an upload; resolves once the whole answer is there. */
const clients: [string, boolean, (url: string) => Promise<{ upload: Writable; status: unknown; close(): void }>][] = [
  [
    'HTTP/1.1',
    false,
    async (url) => {
      const upload = requestOfHttp1(url, { method: 'POST', headers: { 'content-type': 'application/x-raw' } });
      upload.write('first bytes');
      const [response] = await once(upload, 'response');
      await once(response.resume(), 'end');
      return { upload, status: response.statusCode, close: () => void upload.destroy() };
    },
  ],
  [
    'HTTP/2',
    true,
    async (url) => {
      const client = connect(url);
      const upload = client.request({ ':method': 'POST', 'content-type': 'application/x-raw' }, { endStream: false });
      upload.write('first bytes');
      const [headers] = await once(upload, 'response');
      await once(upload.resume(), 'end');
      return { upload, status: headers[':status'], close: () => client.destroy() };
    },
  ],
];

describe.each(clients)('an upload over %s, to Fastify', (_, http2, send) => {
  async function serve() {
    const adapter = http2 ? new FastifyAdapter({ http2: true }) : new FastifyAdapter();
    adapter
      .getInstance()
      .addContentTypeParser('application/x-raw', (_request: unknown, _payload: unknown, done: (error: null) => void) => done(null));
    return createApp('Fastify', UploadsModule, { adapter });
  }

  it('starts its tasks when the answer is out, while it is open, and each of them once', async () => {
    const { url, runner } = await serve();
    const { upload, status, close } = await send(url);
    expect(status).toBe(201);
    await runner.onIdle();
    expect(ran).toEqual(['success', 'always']);
    expect(upload.writableEnded).toBe(false);
    upload.end('last bytes');
    close();
    await runner.onIdle();
    expect(ran).toEqual(['success', 'always']);
  });
});
