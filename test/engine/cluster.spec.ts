import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { type INestApplicationContext, Injectable, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Cluster } from 'ioredis';
import { BackgroundTask, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { type BullmqEngineOptions, bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { engine as guideEngine } from '../../sample/13-engine/cluster.js';
import { ownBackends } from '../support/backends.js';
import { Recorder } from '../support/recorder.js';
import { type Cluster as ClusterOfServers, startCluster } from '../support/servers.js';

// Guarantee 10 on a Redis Cluster: what it has acknowledged runs, also if it loses the master of the queue.

const queue = '{tasks}';

let ran: Recorder<string>;

@Injectable()
class WorkTasks {
  @BackgroundTask('work')
  work(id: string): void {
    ran.add(id);
  }
}

@Injectable()
class ThumbnailTasks {
  @BackgroundTask('thumbnail', { queue: 'thumbnails' })
  thumbnail(): void {}
}

const hasRedis = ownBackends.some(({ name }) => name === 'Redis');

(hasRedis ? describe : describe.skip)('an engine of BullMQ on a Redis Cluster', () => {
  let cluster: ClusterOfServers;
  const apps: INestApplicationContext[] = [];

  beforeAll(async () => {
    cluster = await startCluster(`bull:${queue}:id`);
  }, 60_000);

  afterAll(() => cluster.remove());

  beforeEach(() => {
    ran = new Recorder();
  });

  afterEach(async () => {
    await Promise.all(apps.splice(0).map((app) => app.close()));
  });

  async function start(options: Partial<BullmqEngineOptions>, providers: (typeof WorkTasks | typeof ThumbnailTasks)[] = [WorkTasks]) {
    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({ engine: bullmqEngine({ connection: () => new Cluster([...cluster.nodes]), queue, ...options }) }),
        }),
      ],
      providers,
    })
    class AppModule {}

    const app = await NestFactory.createApplicationContext(AppModule, { logger: false, abortOnError: false });
    apps.push(app);
    return app.get(BackgroundTasksRunner);
  }

  it('refuses a queue whose keys would be on several nodes', async () => {
    await expect(start({ queue: 'tasks' })).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_INVALID_OPTION',
      message:
        'The queue "tasks" is on a Redis Cluster, which keeps its keys on one node only if its name has a part in braces: name it "{tasks}"',
    });
    await expect(start({}, [ThumbnailTasks])).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_INVALID_OPTION',
      message: expect.stringContaining('name it "{thumbnails}"'),
    });
  });

  it('runs tasks with the engine of the guide', async () => {
    @Module({ imports: [BackgroundTasksModule.forRoot({ engine: guideEngine([...cluster.nodes]) })], providers: [WorkTasks] })
    class AppModule {}
    const app = await NestFactory.createApplicationContext(AppModule, { logger: false });
    apps.push(app);
    await app.get(BackgroundTasksRunner).within((tasks) => void tasks.addTask(WorkTasks.prototype.work, 'a'));
    await ran.containing('a');
  });

  it('loses the master of the queue under load: no task that it has acknowledged is lost', async () => {
    // With `replicas: 0`, those are lost that had not yet reached the replica.
    const api = await start({ worker: false, replicas: 1 });
    await start({ worker: { lockDuration: 1_000, stalledInterval: 500 } });
    const acknowledged: string[] = [];
    const refused: string[] = [];
    const answers = new Recorder<string>();
    let stopping = false;
    const clients = ['a', 'b', 'c', 'd'].map(async (name) => {
      for (let n = 1; !stopping; n++) {
        const id = `${name}${n}`;
        try {
          await api.within((tasks) => void tasks.addTask(WorkTasks.prototype.work, id));
          acknowledged.push(id);
          answers.add(id);
        } catch {
          refused.push(id);
        }
      }
    });
    await answers.atLeast(200);
    await cluster.failOver();
    // It is a replica from now on: without one, no task would be acknowledged.
    await cluster.owner.start();
    await answers.atLeast(answers.all.length + 200);
    stopping = true;
    await Promise.all(clients);
    await ran.containing(...acknowledged);
    await expect(api.health()).resolves.toEqual({ ok: true, engine: { sends: true } });
    expect(refused.length).toBeLessThan(acknowledged.length);
  }, 60_000);
});
