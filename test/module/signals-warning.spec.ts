// Guarantee 8: a server that SIGTERM would end at once says so with its first task, once; nothing else does.
import type { AddressInfo, Server } from 'node:net';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, type OnApplicationBootstrap, Scope } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, MessagePattern, Transport } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { firstValueFrom } from 'rxjs';
import supertest from 'supertest';
import { RecordedLogs, adapterOf, createApp, platforms } from '../support/app.js';

const WARNING = expect.stringMatching(/^Nothing in this process listens for SIGTERM.*`app\.enableShutdownHooks\(\)`/);

@Controller()
class TasksController {
  @Get()
  @MessagePattern('add')
  add(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => {});
    return 'answer';
  }

  @Get('none')
  none() {
    return 'answer';
  }
}

@Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })], controllers: [TasksController] })
class TasksModule {}

const restore: (() => void)[] = [];

afterEach(() => {
  for (const undo of restore.splice(0)) undo();
});

describe.each(platforms)('a server on %s that listens', (platform) => {
  const create = () => createApp(platform, TasksModule, { hearsSignals: false });

  it('warns with its first task if nothing listens for SIGTERM, and no more after that', async () => {
    const { http, logs } = await create();
    await http.get('/none').expect(200);
    expect(logs.of('warn')).toEqual([]);
    await http.get('/').expect(200);
    await http.get('/').expect(200);
    expect(logs.of('warn')).toEqual([WARNING]);
  });

  it('does not warn if its shutdown hooks were enabled after it began to listen', async () => {
    const { app, http, logs } = await create();
    app.enableShutdownHooks();
    await http.get('/').expect(200);
    expect(logs.of('warn')).toEqual([]);
  });

  it('does not warn if code of others listens for SIGTERM', async () => {
    const listener = (): void => {};
    process.on('SIGTERM', listener);
    restore.push(() => process.off('SIGTERM', listener));
    const { http, logs } = await create();
    await http.get('/').expect(200);
    expect(logs.of('warn')).toEqual([]);
  });

  it('does not warn on a platform that freezes its processes', async () => {
    process.env['K_SERVICE'] = 'service';
    restore.push(() => void delete process.env['K_SERVICE']);
    const { http, logs } = await create();
    await http.get('/').expect(200);
    expect(logs.of('warn')).toEqual([expect.stringMatching(/Google Cloud Run/)]);
  });

  it('does not warn if it has the option waitUntil', async () => {
    @Module({ imports: [BackgroundTasksModule.forRoot({ waitUntil: () => {} })], controllers: [TasksController] })
    class WaitUntilModule {}

    const { http, logs } = await createApp(platform, WaitUntilModule, { hearsSignals: false });
    await http.get('/').expect(200);
    expect(logs.of('warn')).toEqual([]);
  });

  it('does not warn of tasks that were added before it listens, and warns of the first one after that', async () => {
    @Module({ imports: [TasksModule] })
    class BootModule implements OnApplicationBootstrap {
      constructor(private readonly tasks: BackgroundTasks) {}
      onApplicationBootstrap(): void {
        this.tasks.addTask(() => {});
      }
    }

    const { http, logs } = await createApp(platform, BootModule, { hearsSignals: false });
    expect(logs.of('warn')).toEqual([]);
    await http.get('/').expect(200);
    expect(logs.of('warn')).toEqual([WARNING]);
  });

  it('an application of a test does not warn, which has only been initialized', async () => {
    const logs = new RecordedLogs();
    const testingModule = await Test.createTestingModule({ imports: [TasksModule] })
      .setLogger(logs)
      .compile();
    const app = testingModule.createNestApplication(adapterOf(platform), { logger: logs });
    await app.init();
    if (platform === 'Fastify') await app.getHttpAdapter().getInstance().ready();
    await supertest(app.getHttpServer()).get('/').expect(200);
    await app.close();
    expect(logs.of('warn')).toEqual([]);
  });
});

describe('without HTTP', () => {
  it('a microservice warns with the first task of a message', async () => {
    const logs = new RecordedLogs();
    const host = '127.0.0.1';
    const app = await NestFactory.createMicroservice(TasksModule, { transport: Transport.TCP, options: { host, port: 0 }, logger: logs });
    await app.listen();
    const { port } = app.unwrap<Server>().address() as AddressInfo;
    const client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host, port } });
    for (const _ of [1, 2]) expect(await firstValueFrom(client.send<string>('add', {}))).toBe('answer');
    await client.close();
    await app.close();
    expect(logs.of('warn')).toEqual([WARNING]);
  });

  it('a script does not warn', async () => {
    const logs = new RecordedLogs();
    const app = await NestFactory.createApplicationContext(TasksModule, { logger: logs });
    app.get(BackgroundTasksRunner).addTask(() => {});
    await app.close();
    expect(logs.of('warn')).toEqual([]);
  });
});
