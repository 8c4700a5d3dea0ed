// Guarantee 8: nothing hangs silently: a handler or a task that awaits the end of what waits for itself is told in the log.
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Controller, Get, Module } from '@nestjs/common';
import { type BackgroundTask, BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

/** Opens when a promise is awaited. */
let awaiting: Gate;
/** Lets the one that waits go on all the same. */
let released: Gate;
let last: BackgroundTask;

beforeEach(() => {
  awaiting = gate();
  released = gate();
  jest.useFakeTimers({
    doNotFake: [
      'Date',
      'clearImmediate',
      'clearInterval',
      'hrtime',
      'nextTick',
      'performance',
      'queueMicrotask',
      'setImmediate',
      'setInterval',
    ],
  });
});

afterEach(() => void jest.useRealTimers());

const orReleased = (promise: Promise<unknown>): Promise<unknown> => {
  awaiting.open();
  return Promise.race([promise, released.opened]);
};

@Controller()
class WaitingController {
  constructor(private readonly runner: BackgroundTasksRunner) {}

  @Get('ended-in-handler')
  async endedInHandler(@BackgroundTasks() tasks: BackgroundTasks) {
    await orReleased(tasks.addTask(() => {}).ended);
  }

  @Get('follows')
  follows(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => orReleased(new Promise(() => undefined)));
    void tasks.addTask(() => undefined).ended.then(() => undefined);
  }

  @Get('idle-in-handler')
  async idleInHandler(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => {});
    await orReleased(this.runner.onIdle());
  }

  @Get('idle-in-task')
  idleInTask(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => orReleased(this.runner.onIdle()));
  }

  @Get('ended-in-task')
  endedInTask(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => orReleased(last.ended));
    last = tasks.addTask(() => {});
  }

  @Get('slow')
  slow(@BackgroundTasks() tasks: BackgroundTasks) {
    last = tasks.addTask(() => {
      awaiting.open();
      return released.opened;
    });
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [WaitingController] })
class WaitingModule {}

const warningOf = (promise: string): string =>
  `\`${promise}\` has not settled for 10 s, while the code that a task waits for is still running. A handler, or a task, that ` +
  'awaits it for its own tasks waits for itself: return first, and await it elsewhere';

describe.each(platforms)('on %s', (platform) => {
  it.each([
    ['task.ended', 'in the handler that added the task', 'ended-in-handler'],
    ['runner.onIdle()', 'in a handler that has tasks', 'idle-in-handler'],
    ['runner.onIdle()', 'in a task', 'idle-in-task'],
    ['task.ended', 'in a task before it', 'ended-in-task'],
  ])('`await %s` %s is warned of after 10 s', async (promise, _where, path) => {
    const { http, runner, logs } = await createApp(platform, WaitingModule);
    const answer = http.get(`/${path}`).then(({ status }) => status);
    await awaiting.opened;
    jest.advanceTimersByTime(9_999);
    expect(logs.of('warn')).toEqual([]);
    jest.advanceTimersByTime(1);
    expect(logs.of('warn')).toEqual([warningOf(promise)]);
    released.open();
    expect(await answer).toBe(200);
    await runner.onIdle();
  });

  it('nothing is said of promises that settle, nor of code outside that waits for a slow task', async () => {
    const { http, runner, logs } = await createApp(platform, WaitingModule);
    await http.get('/slow').expect(200);
    await awaiting.opened;
    const [idle, ended] = [runner.onIdle(), last.ended];
    jest.advanceTimersByTime(10_000);
    expect(logs.of('warn')).toEqual([]);
    released.open();
    await Promise.all([idle, ended]);
    await http.get('/ended-in-handler').expect(200);
    await runner.onIdle();
    jest.advanceTimersByTime(10_000);
    expect(logs.of('warn')).toEqual([]);
  });

  it('nothing is said of a handler that follows a task without waiting for it', async () => {
    const { http, runner, logs } = await createApp(platform, WaitingModule);
    await http.get('/follows').expect(200);
    await awaiting.opened;
    jest.advanceTimersByTime(10_000);
    released.open();
    await runner.onIdle();
    expect(logs.of('warn')).toEqual([]);
  });
});
