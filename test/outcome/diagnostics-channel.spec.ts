// Public API: the tracing channel of tasks publishes every start, end, failure and discarded task.
import { AsyncLocalStorage } from 'node:async_hooks';
import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, Post } from '@nestjs/common';
import {
  type BackgroundTaskDiscardMessage,
  type BackgroundTaskTraceMessage,
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksModule,
} from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

const tasks = tracingChannel<unknown, BackgroundTaskTraceMessage>('nestjs-background-tasks:task');
const caller = new AsyncLocalStorage<string>();

let events: string[];
let cleanUps: (() => void)[];
let opened: Gate;

beforeEach(() => {
  events = [];
  cleanUps = [];
  opened = gate();
});

afterEach(() => cleanUps.forEach((cleanUp) => cleanUp()));

/** Records every event of the channels, with the task's name, and where it was published: the store of the code that added the task. */
function record(): void {
  for (const event of ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const) {
    listen(event, (message) => {
      const { task, error } = message as BackgroundTaskTraceMessage;
      events.push(`${task.name} ${event}${error instanceof Error ? ` ${error.name}` : ''} in ${caller.getStore()}`);
    });
  }
  listen('discard', (message) => {
    const { task, reason } = message as BackgroundTaskDiscardMessage;
    events.push(`${task.name} discarded: ${reason}`);
  });
}

function listen(event: string, listener: (message: unknown) => void): void {
  const name = `tracing:nestjs-background-tasks:task:${event}`;
  subscribe(name, listener);
  cleanUps.push(() => unsubscribe(name, listener));
}

const waits = () => opened.opened;
const fails = () => {
  throw new TypeError('no such user');
};

@Controller()
class TasksController {
  @Get('sync')
  sync(@BackgroundTasks() list: BackgroundTasks) {
    caller.run('the handler', () => list.addTask({ name: 'sync' }, () => events.push('the task runs')));
  }

  @Get('async')
  async(@BackgroundTasks() list: BackgroundTasks) {
    caller.run('the handler', () => list.addTask({ name: 'async' }, waits));
  }

  @Get('throws')
  throws(@BackgroundTasks() list: BackgroundTasks) {
    caller.run('the handler', () => list.addTask({ name: 'throws' }, fails));
  }

  @Get('rejects')
  rejects(@BackgroundTasks() list: BackgroundTasks) {
    caller.run('the handler', () => list.addTask({ name: 'rejects' }, async () => fails()));
  }

  @Get('timeout')
  timeout(@BackgroundTasks() list: BackgroundTasks) {
    caller.run('the handler', () => list.addTask({ name: 'timeout', timeout: 1 }, waits));
  }

  @Post('discard')
  discard(@BackgroundTasks() list: BackgroundTasks) {
    list.addTask({ name: 'discard', runOn: 'failure' }, waits);
  }

  @Post('two')
  two(@BackgroundTasks() list: BackgroundTasks) {
    caller.run('the handler', () => list.addTask({ name: 'first' }, waits));
    caller.run('the handler', () => list.addTask({ name: 'second' }, waits));
  }
}

@Module({ imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 0 })], controllers: [TasksController] })
class AppModule {}

describe.each(platforms)('the tracing channel nestjs-background-tasks:task on %s', (platform) => {
  it('leaves the late end of an aborted task in the log', async () => {
    record();
    const { http, runner, logs } = await createApp(platform, AppModule);
    await http.get('/timeout').expect(200);
    await runner.onIdle();
    opened.open();
    await new Promise((resolve) => setImmediate(resolve));
    expect(logs.of('warn')).toEqual(['Background task "timeout" completed after it had been aborted']);
  });

  it.each([
    ['sync', ['sync start in the handler', 'the task runs', 'sync end in the handler']],
    [
      'async',
      ['async start in the handler', 'async end in the handler', 'async asyncStart in the handler', 'async asyncEnd in the handler'],
    ],
    ['throws', ['throws start in the handler', 'throws error TypeError in the handler', 'throws end TypeError in the handler']],
    [
      'rejects',
      [
        'rejects start in the handler',
        'rejects end in the handler',
        'rejects error TypeError in the handler',
        'rejects asyncStart TypeError in the handler',
        'rejects asyncEnd TypeError in the handler',
      ],
    ],
    [
      'timeout',
      [
        'timeout start in the handler',
        'timeout end in the handler',
        'timeout error BackgroundTasksTimeoutError in the handler',
        'timeout asyncStart BackgroundTasksTimeoutError in the handler',
        'timeout asyncEnd BackgroundTasksTimeoutError in the handler',
      ],
    ],
  ])('publishes, of the task %s, in the context of the code that added it:', async (path, expected) => {
    const { http, runner } = await createApp(platform, AppModule);
    record();
    await http.get(`/${path}`).expect(200);
    if (path === 'async') opened.open();
    await runner.onIdle();
    expect(events).toEqual(expected);
  });

  it('publishes a task that the outcome discards', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    record();
    await http.post('/discard').expect(201);
    await runner.onIdle();
    expect(events).toEqual(['discard discarded: it runs on failure, and the outcome of its request was success']);
  });

  it('publishes the tasks that a shutdown aborts, and those that it does not start', async () => {
    const { app, http } = await createApp(platform, AppModule);
    record();
    await http.post('/two').expect(201);
    await app.close();
    expect(events).toEqual([
      'first start in the handler',
      'first end in the handler',
      'first error BackgroundTasksShutdownError in the handler',
      'first asyncStart BackgroundTasksShutdownError in the handler',
      'first asyncEnd BackgroundTasksShutdownError in the handler',
      'second discarded: the application shuts down, and its shutdownTimeout of 0 ms is over',
    ]);
  });

  it('hands the same object to all events of a task', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    const seen = new Set<object>();
    const see = (message: unknown): void => void seen.add(message as object);
    for (const event of ['start', 'end', 'error', 'asyncStart', 'asyncEnd']) listen(event, see);
    await http.get('/rejects').expect(200);
    await runner.onIdle();
    expect([...seen]).toEqual([{ task: expect.any(BackgroundTask), error: new TypeError('no such user') }]);
  });

  it('runs the task, and what follows its first await, with the stores bound to the channel', async () => {
    const store = new AsyncLocalStorage<string>();
    tasks.start.bindStore(store, ({ task }) => `store of ${task.name}`);
    cleanUps.push(() => tasks.start.unbindStore(store));
    const stores: unknown[] = [];
    const task = new BackgroundTask({ name: 'bound' }, async () => {
      stores.push(store.getStore());
      await opened.opened;
      stores.push(store.getStore());
    });
    opened.open();
    await task.run();
    expect(stores).toEqual(['store of bound', 'store of bound']);
    expect(store.getStore()).toBeUndefined();
  });
});
