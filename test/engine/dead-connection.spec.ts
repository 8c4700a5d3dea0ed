// Guarantee 10: tasks are taken and run again after a connection has died without an error.
import { randomUUID } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Injectable, Module, Post } from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { createApp } from '../support/app.js';
import { engineOn, notTested, ownBackends, queueOn } from '../support/backends.js';
import { type Proxy, startProxy } from '../support/proxy.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';

let ran: Recorder<string>;

@Injectable()
class WorkTasks {
  @BackgroundTask('work')
  work(): void {
    ran.add(currentTask()!.id);
  }

  @BackgroundTask('tomorrow', { delay: 86_400_000 })
  tomorrow(): void {}
}

@Controller()
class WorkController {
  @Post('work')
  work(@BackgroundTasks() tasks: BackgroundTasks) {
    return tasks.addTask(WorkTasks.prototype.work).id;
  }

  @Post('tomorrow')
  tomorrow(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(WorkTasks.prototype.tomorrow);
  }
}

if (notTested(ownBackends).length > 0) it.skip.each(notTested(ownBackends))('%s', () => undefined);

describe.each(ownBackends)('after the connections to $name have died without an error,', (backend) => {
  let server: Server;
  const proxies: Proxy[] = [];

  beforeAll(async () => {
    server = await backend.start();
  }, 30_000);

  afterAll(async () => {
    await Promise.all(proxies.map((proxy) => proxy.close()));
    await server.remove();
  });

  beforeEach(() => {
    ran = new Recorder();
  });

  async function start(worker: false | object, url: string, queue: string) {
    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({ engine: engineOn(backend, url, { queue, worker }), flushTimeout: 10_000 }),
        }),
      ],
      controllers: [WorkController],
      providers: [WorkTasks],
    })
    class AppModule {}

    return createApp('Express', AppModule);
  }

  /** One for each application: the commands of one are not to pass for those of another. */
  async function startedProxy(): Promise<Proxy> {
    const proxy = await startProxy(server.url);
    proxies.push(proxy);
    return proxy;
  }

  async function hasEnded(name: string, id: string): Promise<void> {
    const queue = queueOn(backend, server.url, name);
    while ((await queue.getJobState(id)) !== 'completed') await setImmediate();
    await queue.close();
  }

  it('an API hands tasks over again within the flushTimeout', async () => {
    const proxy = await startedProxy();
    const { http } = await start(false, proxy.url, randomUUID());
    await http.post('/work').expect(201);
    proxy.drop();
    await http.post('/work').expect(201);
  }, 30_000);

  it('workers run tasks again: one that waits, and one that waits for a task that is due tomorrow, too', async () => {
    // Both at once, as it is their silence that takes time to notice.
    const workers = await Promise.all([[], ['/tomorrow']].map(waitingWorker));
    const dead = performance.now();
    for (const { proxy } of workers) proxy.drop();
    await Promise.all(workers.map(({ runsMore }) => runsMore()));
    // Until the silence is noticed; the rest is a busy machine's.
    expect(performance.now() - dead).toBeLessThan(15_000 + 10_000);
    expect(ran.all).toHaveLength(8);
  }, 60_000);

  /** A worker that has run a task, and waits for more. `runsMore()` resolves once it has run three others. */
  async function waitingWorker(before: string[]) {
    const queue = randomUUID();
    const proxy = await startedProxy();
    const { http } = await start(false, server.url, queue);
    for (const path of before) await http.post(path).expect(201);
    const waits = proxy.sent(/listen |bzpopmin/i);
    await start({ concurrency: 2 }, proxy.url, queue);
    await waits;
    await hasEnded(queue, (await http.post('/work').expect(201)).text);
    const runsMore = async (): Promise<void> => {
      const ids = await Promise.all([1, 2, 3].map(async () => (await http.post('/work').expect(201)).text));
      await ran.containing(...ids);
    };
    return { proxy, runsMore };
  }
});
