// Sample 18: uploads and downloads whose files tasks use and delete.
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type ServerResponse, get } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import multipart from '@fastify/multipart';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, Post, Req, Res } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyRequest } from 'fastify';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { Contacts } from '../../sample/18-files/contacts.js';
import { AppModule as ExpressModule } from '../../sample/18-files/express.module.js';
import { ExportsController } from '../../sample/18-files/exports.controller.js';
import { AppModule as FastifyModule } from '../../sample/18-files/fastify.module.js';
import { type TestAppOptions, createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';

// Files of a request, as docs/recipes.md and docs/what-a-task-may-use.md show them.

function* endless(): Generator<string> {
  for (;;) yield 'x'.repeat(10_000);
}

/** Reads a file when the test says so. */
class GatedContacts extends Contacts {
  readonly begun = new Recorder<string>();
  readonly read: Gate = gate();

  override async import(path: string): Promise<void> {
    this.begun.add(path);
    await this.read.opened;
    const text = await readFile(path, 'utf8');
    if (text === 'broken') throw new Error('A line has no address');
    this.all.push(text);
  }
}

const withMultipart: TestAppOptions = { configure: (app) => void (app as NestFastifyApplication).register(multipart) };

describe.each(platforms)('sample/18-files on %s: an upload', (platform) => {
  async function createSample() {
    const contacts = new GatedContacts();
    const sample = await createApp(platform, platform === 'Express' ? ExpressModule : FastifyModule, {
      ...(platform === 'Fastify' && withMultipart),
      build: (builder) => builder.overrideProvider(Contacts).useValue(contacts),
    });
    return { ...sample, runner: sample.runner, contacts };
  }

  it.each([
    ['is there for the task, and deleted after it', 'ann@example.com', ['ann@example.com']],
    ['is deleted if the task fails', 'broken', []],
  ])('%s', async (_, text, all) => {
    const { http, runner, contacts } = await createSample();
    await http.post('/uploads').attach('contacts', Buffer.from(text), 'contacts.txt').expect(202);
    const [path] = await contacts.begun.atLeast(1);
    contacts.read.open();
    await runner.onIdle();
    expect(contacts.all).toEqual(all);
    expect(existsSync(path!)).toBe(false);
  });
});

describe('sample/18-files on Express: a download', () => {
  let paths: string[];

  beforeEach(() => {
    paths = [];
  });

  /** Deletes only on success, unlike the sample, which always deletes. */
  @Controller('on-success')
  class OnSuccessController extends ExportsController {
    @Get('contacts.txt')
    override download(@Res() response: Parameters<ExportsController['download']>[0], @BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'on success' }, () => undefined);
      return super.download(response, tasks);
    }

    @Get('pipeline')
    async pipeline(@Res() response: ServerResponse, @BackgroundTasks() tasks: BackgroundTasks): Promise<void> {
      tasks.addTask({ name: 'on success' }, () => undefined);
      await pipeline(Readable.from(endless()), response);
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [OnSuccessController, ExportsController], providers: [Contacts] })
  class DownloadModule {}

  async function createSample() {
    const sample = await createApp('Express', DownloadModule, {
      configure: (app) =>
        app.use((_request: object, response: { sendFile(path: string, options: object): void }, next: () => void) => {
          const { sendFile } = response;
          response.sendFile = (path, options) => {
            paths.push(path);
            sendFile.call(response, path, options);
          };
          next();
        }),
    });
    sample.app.get(Contacts).all.push('ann@example.com', 'bob@example.com');
    return { ...sample, runner: sample.runner };
  }

  it('is deleted when the last byte is out', async () => {
    const { http, runner } = await createSample();
    await http.get('/exports/contacts.txt').expect(200, 'ann@example.com\nbob@example.com');
    await runner.onIdle();
    expect(paths).toHaveLength(1);
    expect(existsSync(paths[0]!)).toBe(false);
  });

  it('is deleted if the client asks for a range that the file does not have: a task that runs on success is discarded', async () => {
    const { http, runner, logs } = await createSample();
    await http.get('/on-success/contacts.txt').set('Range', 'bytes=1000-').expect(416);
    await runner.onIdle();
    expect(paths).toHaveLength(1);
    expect(existsSync(paths[0]!)).toBe(false);
    expect(logs.of('debug')).toEqual([expect.stringContaining('"on success" was discarded')]);
  });

  /** A client that leaves when it has the first bytes. */
  const leave = (url: string) =>
    new Promise<void>((resolve, reject) => {
      get(url, (response) => {
        response.once('data', () => {
          response.destroy();
          resolve();
        });
      }).once('error', reject);
    });

  it('is deleted if the client leaves half-way', async () => {
    const { app, url, runner } = await createSample();
    app.get(Contacts).all.push('x'.repeat(50_000_000));
    await leave(`${url}/exports/contacts.txt`);
    await runner.onIdle();
    expect(existsSync(paths[0]!)).toBe(false);
  });

  it('a client that leaves while the handler awaits pipeline() is a failure', async () => {
    const { url, runner } = await createSample();
    await leave(`${url}/on-success/pipeline`);
    await runner.onIdle();
    expect(runner.discardedCount).toBe(1);
  });
});

describe('after an upload with @fastify/multipart, a task', () => {
  let cleaned: Gate;
  let results: unknown[];

  beforeEach(() => {
    cleaned = gate();
    results = [];
  });

  const size = async (stream: AsyncIterable<Buffer>): Promise<number> => {
    let bytes = 0;
    for await (const chunk of stream) bytes += chunk.length;
    return bytes;
  };

  @Controller()
  class UploadsController {
    @Post('saved')
    async saved(@Req() request: FastifyRequest, @BackgroundTasks() tasks: BackgroundTasks) {
      const { files } = await request.saveRequestFiles();
      // The plugin calls this when the response has ended.
      const clean = request.cleanRequestFiles.bind(request);
      request.cleanRequestFiles = () => clean().finally(cleaned.open);
      tasks.addTask(async (path) => {
        await cleaned.opened;
        results.push(await readFile(path).catch(({ code }: NodeJS.ErrnoException) => code));
      }, files[0]!.filepath);
    }

    @Post('part')
    async part(@Req() request: FastifyRequest, @BackgroundTasks() tasks: BackgroundTasks) {
      const part = await request.file();
      tasks.addTask({ name: 'part', timeout: 500 }, async () => results.push(await size(part!.file)));
    }

    @Post('buffer')
    async buffer(@Req() request: FastifyRequest, @BackgroundTasks() tasks: BackgroundTasks) {
      const part = await request.file();
      tasks.addTask((bytes) => results.push(bytes.length), await part!.toBuffer());
    }

    @Post('first-asked-in-task')
    late(@Req() request: FastifyRequest, @BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(async () => results.push(await request.file()));
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [UploadsController] })
  class UploadsModule {}

  async function upload(path: string, bytes: number) {
    const sample = await createApp('Fastify', UploadsModule, {
      configure: (app) => void (app as NestFastifyApplication).register(multipart, { limits: { fileSize: Infinity } }),
    });
    await sample.http.post(path).attach('file', Buffer.alloc(bytes), 'file').expect(201);
    await sample.runner.onIdle();
    return sample.logs;
  }

  it('finds no file of saveRequestFiles()', async () => {
    await upload('/saved', 100);
    expect(results).toEqual(['ENOENT']);
  });

  it('never comes to the end of a large part that was not read in the handler', async () => {
    const logs = await upload('/part', 5_000_000);
    expect(results).toEqual([]);
    expect(logs.of('error')).toEqual([expect.stringContaining('"part" did not end within its timeout of 500 ms')]);
  });

  it('has a buffer that was read in the handler', async () => {
    await upload('/buffer', 5_000_000);
    expect(results).toEqual([5_000_000]);
  });

  it('finds no part if it is the first to ask', async () => {
    await upload('/first-asked-in-task', 100);
    expect(results).toEqual([undefined]);
  });
});
