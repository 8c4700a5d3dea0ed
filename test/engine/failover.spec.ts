import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { inspect } from 'node:util';
import { Controller, Injectable, Module, Param, Post } from '@nestjs/common';
import { Redis } from 'ioredis';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { createApp } from '../support/app.js';
import { type Proxy, startProxy } from '../support/proxy.js';
import { Recorder } from '../support/recorder.js';
import { type Server, hasRedisServer, startRedis } from '../support/servers.js';

// Guarantee 10: what an engine has acknowledged runs, also if a server fails over.

let ran: Recorder<string>;
let reported: Recorder<unknown>;

@Injectable()
class WorkTasks {
  @BackgroundTask('work')
  work(id: string): void {
    ran.add(id);
  }
}

@Controller()
class WorkController {
  @Post('work/:id')
  work(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(WorkTasks.prototype.work, id);
  }
}

(hasRedisServer ? describe : describe.skip)('Redis', () => {
  let server: Server;
  let replica: Server;
  let proxy: Proxy;

  beforeEach(async () => {
    ran = new Recorder();
    reported = new Recorder();
    [server, replica] = await Promise.all([startRedis(), startRedis()]);
    proxy = await startProxy(server.url);
  }, 30_000);

  afterEach(async () => {
    await proxy.close();
    await Promise.all([server.remove(), replica.remove()]);
  });

  function start(flushTimeout: number) {
    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({
            engine: bullmqEngine({ connection: proxy.url, queue: randomUUID() }),
            flushTimeout,
            onError: (error) => reported.add(error),
          }),
        }),
      ],
      controllers: [WorkController],
      providers: [WorkTasks],
    })
    class AppModule {}

    return createApp('Express', AppModule);
  }

  async function command(url: string, ...words: [string, ...string[]]): Promise<void> {
    const client = new Redis(url);
    await client.call(...words);
    client.disconnect();
  }

  it('fails over behind its address, whose connections stay on a node that is read-only now: requests and workers go on', async () => {
    const { http } = await start(5_000);
    await http.post('/work/before').expect(201);
    await ran.containing('before');
    // After a managed failover, connections are still open, but to a node that has become a replica of the new primary.
    proxy.redirect(replica.url);
    await command(server.url, 'replicaof', '127.0.0.1', new URL(replica.url).port);
    await http.post('/work/after').expect(201);
    await ran.containing('after');
    expect(reported.all).toEqual([]);
  }, 30_000);

  it('refuses what it is sent: the error has its reason, and nothing of the arguments', async () => {
    const { http } = await start(2_000);
    await http.post('/work/before').expect(201);
    await command(server.url, 'config', 'set', 'maxmemory', '1');
    await http.post('/work/secret-of-the-user').expect(503);
    const [error] = (await reported.atLeast(1)) as [Error];
    expect(error.cause).toMatchObject({ name: 'ReplyError', message: expect.stringMatching(/^OOM command not allowed/) });
    expect([inspect(error, { depth: 10, showHidden: true }), JSON.stringify(error), String(error.stack)].join('\n')).not.toContain(
      'secret',
    );
  }, 30_000);
});
