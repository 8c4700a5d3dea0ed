// Guarantee 6: a task that is added when its list is done still runs, at once and tracked.
import type { ServerResponse } from 'node:http';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, Res } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

// Code that nobody awaits may add a task long after its request. A warning says why the task is late.

let log: string[];
let work: Gate;
let added: Gate;
let release: Gate;

beforeEach(() => {
  log = [];
  work = gate();
  added = gate();
  release = gate();
});

const lateWarning = (name: string): string =>
  `Background task "${name}" was added after its request was over; await the work that adds it, ` +
  'and do not keep the list of a request in a singleton or a durable provider';

interface Reply {
  readonly raw?: ServerResponse;
  send(body: string): void;
}

async function late(): Promise<void> {
  log.push('late starts');
  await release.opened;
  log.push('late ends');
}

/** Work that the handler does not wait for. */
async function fireAndForget(tasks: BackgroundTasks): Promise<void> {
  await work.opened;
  tasks.addTask(late);
  added.open();
}

@Controller()
class LateController {
  @Get('first')
  first(@BackgroundTasks() tasks: BackgroundTasks) {
    void fireAndForget(tasks);
  }

  @Get('after-others')
  afterOthers(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => log.push('in time'));
    void fireAndForget(tasks);
  }

  @Get('while-another-runs')
  whileAnotherRuns(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(async () => {
      log.push('in time starts');
      await added.opened;
      log.push('in time ends');
    });
    void fireAndForget(tasks);
  }

  @Get('manual')
  async manual(@Res() response: Reply, @BackgroundTasks() tasks: BackgroundTasks) {
    response.send('sent');
    void fireAndForget(tasks);
  }

  @Get('failed')
  failed(@BackgroundTasks() tasks: BackgroundTasks) {
    void fireAndForget(tasks);
    throw new Error('handler');
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [LateController] })
class LateModule {}

describe.each(platforms)('a task added late on %s', (platform) => {
  it.each([
    ['the first of its request', '/first', []],
    ['the others have run', '/after-others', ['in time']],
    ['the response was sent by hand', '/manual', []],
  ])('runs at once, tracked, with a warning: %s', async (_name, path, before) => {
    const { http, runner, logs } = await createApp(platform, LateModule);
    await http.get(path).expect(200);
    await runner.onIdle();
    expect(log).toEqual(before);
    work.open();
    await added.opened;
    expect(runner.pendingCount).toBe(1);
    expect(logs.of('warn')).toEqual([lateWarning('late')]);
    const idle = runner.onIdle();
    release.open();
    await idle;
    expect(log).toEqual([...before, 'late starts', 'late ends']);
  });

  it('runs after the others while they are at work, and is not late then', async () => {
    const { http, runner, logs } = await createApp(platform, LateModule);
    await http.get('/while-another-runs').expect(200);
    work.open();
    release.open();
    await runner.onIdle();
    expect(log).toEqual(['in time starts', 'in time ends', 'late starts', 'late ends']);
    expect(logs.of('warn')).toEqual([]);
  });

  it('follows the outcome of its request', async () => {
    const { http, runner, logs } = await createApp(platform, LateModule);
    await http.get('/failed').expect(500);
    work.open();
    await added.opened;
    await runner.onIdle();
    expect(log).toEqual([]);
    expect(logs.of('warn')).toEqual([lateWarning('late')]);
    expect(logs.of('debug')).toEqual([
      'Background task "late" was discarded: it runs on success, and the outcome of its request was failure',
    ]);
  });

  it('does not keep app.close() from waiting for it', async () => {
    const { app, http } = await createApp(platform, LateModule);
    await http.get('/first').expect(200);
    work.open();
    await added.opened;
    const closed = app.close().then(() => log.push('closed'));
    release.open();
    await closed;
    expect(log).toEqual(['late starts', 'late ends', 'closed']);
  });
});
