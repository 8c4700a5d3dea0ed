// Guarantee 10: while the server of the engine is away, the API keeps answering, tasks that get no acknowledgement are reported, and none
// runs twice.
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, Post } from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, type BackgroundTasksModuleOptions } from 'nestjs-background-tasks';
import { createApp } from '../support/app.js';
import { engineOn, notTested, ownBackends } from '../support/backends.js';
import { Recorder } from '../support/recorder.js';
import type { Server } from '../support/servers.js';

/** The ids of the tasks that requests added. */
let added: string[];
let ran: Recorder<string>;
let reported: Recorder<string>;

@Injectable()
class WorkTasks {
  @BackgroundTask('work')
  work(id: string): void {
    ran.add(id);
  }
}

@Controller()
class WorkController {
  @Post('engine')
  engine(@BackgroundTasks() tasks: BackgroundTasks) {
    const id = randomUUID();
    added.push(id);
    tasks.addTask(WorkTasks.prototype.work, id);
    tasks.addTask(() => ran.add(`plain ${id}`));
    return id;
  }

  @Get('plain')
  plain(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => ran.add('plain'));
    return 'answer';
  }
}

if (notTested(ownBackends).length > 0) it.skip.each(notTested(ownBackends))('%s', () => undefined);

describe.each(ownBackends)('an application whose $name is away', (backend) => {
  let server: Server;

  beforeAll(async () => {
    server = await backend.start();
  }, 30_000);

  afterAll(() => server.remove());

  beforeEach(() => {
    added = [];
    ran = new Recorder();
    reported = new Recorder();
  });

  /** An application that adds tasks and runs them. */
  async function start(options: BackgroundTasksModuleOptions) {
    const queue = randomUUID();

    @Module({
      imports: [
        BackgroundTasksModule.forRootAsync({
          useFactory: () => ({
            engine: engineOn(backend, server.url, { queue, worker: {} }),
            onError: (error, task) => reported.add(`${task.name}: ${(error as Error).message}`),
            ...options,
          }),
        }),
      ],
      controllers: [WorkController],
      providers: [WorkTasks],
    })
    class AppModule {}

    return createApp('Express', AppModule);
  }

  type App = Awaited<ReturnType<typeof start>>;

  /** Asks until the engine takes a task; resolves once that has run. */
  async function expectService({ http }: App): Promise<void> {
    for (;;) {
      const { status, text: id } = await http.post('/engine');
      if (status === 201) return ran.containing(id, `plain ${id}`);
    }
  }

  /** Resolves with the id of the task that the engine did not get. */
  async function expectNoService({ http, runner }: App, flushTimeout: number): Promise<string> {
    // The server is still away: without the flushTimeout, there would be no answer before it is back.
    await http.post('/engine').expect(503);
    ran.all.length = 0;
    await http.get('/plain').expect(200, 'answer');
    await runner.onIdle();
    expect(ran.all).toEqual(['plain']);
    expect(reported.all.at(-1)).toMatch(
      new RegExp(
        `^work: Background task "work" did not get to the engine within the flushTimeout of ${flushTimeout} ms; (last error: |no answer)`,
      ),
    );
    return added.at(-1)!;
  }

  /** Not the report of a task that ran as its server went away, so that BullMQ could not write down its end. */
  const notDelivered = (): string[] => reported.all.filter((line) => line.includes('did not get to the engine'));

  it('starts, answers everything else, and needs no restart when the server comes up', async () => {
    await server.crash();
    const app = await start({ flushTimeout: 200 });
    const refused = await expectNoService(app, 200);
    await server.start();
    await expectService(app);
    // Nor is it run behind the back of the client, who was told no.
    expect(ran.all).not.toContain(refused);
  }, 60_000);

  it('does not tell the state of a task, and says why, while the server is away from the start', async () => {
    await server.crash();
    try {
      const { runner } = await start({ flushTimeout: 200 });
      await expect(runner.state(randomUUID())).rejects.toThrow();
    } finally {
      await server.start();
    }
  }, 60_000);

  it('refuses tasks after a crash of the server, and takes them again when it is back', async () => {
    const app = await start({ flushTimeout: 200 });
    await expectService(app);
    await server.crash();
    const refused = await expectNoService(app, 200);
    await server.start();
    await expectService(app);
    // Nor is it run behind the back of the client, who was told no.
    expect(ran.all).not.toContain(refused);
  }, 60_000);

  it('refuses tasks while the server hangs, and takes them again when it goes on', async () => {
    const app = await start({ flushTimeout: 200 });
    await expectService(app);
    server.freeze();
    await expectNoService(app, 200);
    server.thaw();
    await expectService(app);
  }, 60_000);

  it('loses no task, and runs none twice, if the server is back within the flushTimeout', async () => {
    const app = await start({ flushTimeout: 15_000 });
    await expectService(app);
    await server.crash();
    const answers = Promise.all([1, 2, 3].map(() => app.http.post('/engine').expect(201)));
    await server.start();
    const ids = (await answers).map(({ text }) => text);
    await ran.containing(...ids);
    await expectService(app);
    expect(ran.all.filter((line) => ids.includes(line)).sort()).toEqual(ids.sort());
    expect(notDelivered()).toEqual([]);
  }, 30_000);

  it("answers at once under 'after-response', and runs the task once when the server goes on", async () => {
    const app = await start({ flush: 'after-response', flushTimeout: 15_000 });
    await expectService(app);
    server.freeze();
    const { text: id } = await app.http.post('/engine').expect(201);
    server.thaw();
    await app.runner.onIdle();
    await ran.containing(id);
    await expectService(app);
    expect(ran.all.filter((line) => line === id)).toEqual([id]);
    expect(notDelivered()).toEqual([]);
  }, 30_000);

  it.each(['crash', 'freeze'] as const)(
    'closes without waiting for the server, if no task runs: %s',
    async (how) => {
      const app = await start({ flushTimeout: 200, shutdownTimeout: 86_400_000 });
      await expectService(app);
      await server[how]();
      try {
        // The worker has noticed by then.
        await expectNoService(app, 200);
        // The server comes back only after it: a shutdown that waited for it would take a day.
        await app.app.close();
      } finally {
        if (how === 'crash') await server.start();
        else server.thaw();
      }
    },
    40_000,
  );

  it.each(['crash', 'freeze'] as const)(
    'closes although a task waits for the server, and reports the task: %s',
    async (how) => {
      const running = await start({ flush: 'after-response', shutdownTimeout: 100 });
      const { app, http } = running;
      await expectService(running);
      await server[how]();
      await http.post('/engine').expect(201);
      try {
        await app.close();
      } finally {
        if (how === 'crash') await server.start();
        else server.thaw();
      }
      expect(reported.all).toEqual([expect.stringContaining('the application shuts down, and its shutdownTimeout of 100 ms is over')]);
    },
    60_000,
  );
});
