import { setImmediate } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { type INestApplicationContext, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Redis } from 'ioredis';
import { BackgroundTask, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { type BullmqEngineOptions, bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { Recorder } from '../support/recorder.js';
import { type Server, hasRedisServer, startRedis } from '../support/servers.js';

// Guarantee 10 with the option `replicas`: a task that Redis has accepted outlives a failover.

let ran: Recorder<string>;

@Injectable()
class WorkTasks {
  @BackgroundTask('work')
  work(id: string): void {
    ran.add(id);
  }

  @BackgroundTask('debounced', { delay: 60_000, deduplication: { id: () => 'key', ttl: 60_000, extend: true, replace: true } })
  debounced(id: string): void {
    ran.add(id);
  }

  @BackgroundTask('once-a-minute', { deduplication: { id: () => 'minute', ttl: 60_000 } })
  onceAMinute(id: string): void {
    ran.add(id);
  }
}

(hasRedisServer ? describe : describe.skip)('the option replicas of an engine on Redis', () => {
  let primary: Server;
  let replica: Server;
  let redis: Redis;
  const apps: INestApplicationContext[] = [];

  beforeAll(async () => {
    [primary, replica] = await Promise.all([startRedis(['--repl-diskless-sync-delay', '0']), startRedis()]);
    redis = new Redis(primary.url);
    const follower = new Redis(replica.url);
    await follower.replicaof('127.0.0.1', Number(new URL(primary.url).port));
    while (!/master_link_status:up/.test(await follower.info('replication'))) await setImmediate();
    follower.disconnect();
  });

  afterAll(async () => {
    redis.disconnect();
    await Promise.all([primary.remove(), replica.remove()]);
  });

  beforeEach(() => {
    ran = new Recorder();
  });

  afterEach(async () => {
    replica.thaw();
    await Promise.all(apps.splice(0).map((app) => app.close()));
    await redis.flushall();
  });

  async function start(options: Partial<BullmqEngineOptions> = {}, flushTimeout = 10_000): Promise<BackgroundTasksRunner> {
    @Module({
      imports: [
        BackgroundTasksModule.forRoot({
          engine: bullmqEngine({ connection: primary.url, replicas: 1, ...options }),
          flushTimeout,
        }),
      ],
      providers: [WorkTasks],
    })
    class AppModule {}

    const app = await NestFactory.createApplicationContext(AppModule, { logger: false });
    apps.push(app);
    return app.get(BackgroundTasksRunner);
  }

  it('acknowledges a task once a replica has it', async () => {
    const runner = await start();
    const events: string[] = [];
    replica.freeze();
    const added = runner
      .within((tasks) => {
        tasks.addTask(WorkTasks.prototype.work, 'a');
        tasks.addTask(WorkTasks.prototype.work, 'b');
      })
      .then(() => events.push('acknowledged'));
    // The workers need not wait.
    await ran.containing('a', 'b');
    events.push('thawed');
    replica.thaw();
    await added;
    expect(events).toEqual(['thawed', 'acknowledged']);
  });

  it('refuses a task that no replica gets', async () => {
    // Redis need not answer a WAIT within the usual time for a command on a busy machine.
    const runner = await start({ connection: { url: primary.url, commandTimeout: 30_000 } }, 3_000);
    replica.freeze();
    await expect(runner.within((tasks) => void tasks.addTask(WorkTasks.prototype.work, 'a'))).rejects.toMatchObject({
      name: 'BackgroundTasksEngineError',
      message: expect.stringMatching(/; last error: 0 of 1 replicas confirmed the tasks within 500 ms$/),
    });
    await expect(runner.health()).resolves.toMatchObject({ ok: false, engine: { sends: false } });
  });

  it('sends a task again if a failover has lost it before a replica confirmed it', async () => {
    let fails = true;
    class FailingOver extends Redis {
      override pipeline(...commands: Parameters<Redis['pipeline']>): ReturnType<Redis['pipeline']> {
        // As if the next command went to another server.
        if (fails) void this.flushall();
        fails = false;
        return super.pipeline(...commands);
      }
    }
    const { host, port } = redis.options;
    const runner = await start({ connection: () => new FailingOver({ host: host!, port: port! }), worker: false });
    await runner.within((tasks) => void tasks.addTask(WorkTasks.prototype.work, 'a'));
    expect(fails).toBe(false);
    await start();
    await ran.containing('a');
  });

  it('acknowledges a task that a later one of the same request replaces', async () => {
    const runner = await start({ worker: false });
    await runner.within((tasks) => {
      tasks.addTask(WorkTasks.prototype.debounced, 'a');
      tasks.addTask(WorkTasks.prototype.debounced, 'b');
    });
    await expect(runner.health()).resolves.toMatchObject({ ok: true });
  });

  it('acknowledges a task that is deduplicated, whose own job does not exist', async () => {
    const runner = await start();
    await runner.within((tasks) => void tasks.addTask(WorkTasks.prototype.onceAMinute, 'a'));
    await ran.containing('a');
    // As if it had ended long ago.
    await redis.del(...(await redis.keys('bull:background-tasks:*-*-*-*-*')));
    await runner.within((tasks) => {
      tasks.addTask(WorkTasks.prototype.onceAMinute, 'b');
      tasks.addTask(WorkTasks.prototype.work, 'c');
    });
    await ran.containing('c');
    expect(ran.all).toEqual(['a', 'c']);
  });
});
