// Guarantee 10: the answer waits until the engine has the tasks; concurrent requests share calls to the engine, and share no failure.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Injectable, Module, Param, Post } from '@nestjs/common';
import {
  BackgroundTask,
  BackgroundTasks,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  type EngineEntry,
} from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';

// The engine of these specs answers when the test says so.

class TestEngine implements BackgroundTasksEngine {
  readonly calls = new Recorder<string[]>();
  /** The result of a call. */
  answer: (entries: readonly EngineEntry[]) => unknown = () => undefined;

  async enqueue(entries: readonly EngineEntry[], signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    this.calls.add(entries.map(({ args }) => args.slice(2, 12).replace(/".*/, '')));
    await this.answer(entries);
  }

  work(): undefined {}

  async close(): Promise<void> {}

  /** Has each call wait for a gate of its own, in the order of the calls. */
  held(): (call: number) => Gate {
    const gates: Gate[] = [];
    const gateOf = (call: number): Gate => (gates[call] ??= gate());
    this.answer = () => gateOf(this.calls.all.length - 1).opened;
    return gateOf;
  }
}

let engine: TestEngine;
let reported: string[];
/** The lists of requests as they were filled. */
let added: Recorder<string>;

beforeEach(() => {
  engine = new TestEngine();
  reported = [];
  added = new Recorder();
});

@Injectable()
class MailTasks {
  @BackgroundTask('mail')
  mail(_to: string): void {}
}

@Controller()
class MailController {
  @Post('mail/:to')
  mail(@Param('to') to: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(MailTasks.prototype.mail, to);
    added.add(to);
  }

  @Post('many/:count')
  many(@Param('count') count: string, @BackgroundTasks() tasks: BackgroundTasks) {
    for (let n = 0; n < Number(count); n++) tasks.addTask(MailTasks.prototype.mail, `${n}`);
  }

  @Post('long/:count')
  long(@Param('count') count: string, @BackgroundTasks() tasks: BackgroundTasks) {
    for (let n = 0; n < Number(count); n++) tasks.addTask(MailTasks.prototype.mail, 'x'.repeat(400_000));
  }
}

function moduleOf(options: BackgroundTasksModuleOptions = {}) {
  @Module({
    imports: [
      BackgroundTasksModule.forRootAsync({
        useFactory: () => ({ engine, onError: (error: unknown) => reported.push((error as Error).message), ...options }),
      }),
    ],
    controllers: [MailController],
    providers: [MailTasks],
  })
  class AppModule {}

  return AppModule;
}

const range = (start: number, end: number): string[] => Array.from({ length: end - start }, (_, n) => `${start + n}`);

describe.each(platforms)('group commit on %s', (platform) => {
  it('a single request does not wait; tasks added while its call is in flight go in the next call', async () => {
    const { http, url } = await createApp(platform, moduleOf());
    const gateOf = engine.held();
    const first = http.post('/mail/a').then(({ status }) => status);
    await engine.calls.atLeast(1);
    const others = ['b', 'c', 'd'].map(async (to) => (await fetch(`${url}/mail/${to}`, { method: 'POST' })).status);
    await added.atLeast(4);
    gateOf(0).open();
    await expect(first).resolves.toBe(201);
    await engine.calls.atLeast(2);
    gateOf(1).open();
    await expect(Promise.all(others)).resolves.toEqual([201, 201, 201]);
    expect(engine.calls.all.map((call) => call.sort())).toEqual([['a'], ['b', 'c', 'd']]);
  });

  it('a refused entry fails its own request, and no other of the same call', async () => {
    const { http, url, runner } = await createApp(platform, moduleOf({ flushTimeout: 1_000 }));
    const held = gate();
    engine.answer = async (entries) => {
      await held.opened;
      if (entries.some(({ args }) => args === '["bad"]')) throw new Error('too large');
    };
    const first = http.post('/mail/a').then(({ status }) => status);
    await engine.calls.atLeast(1);
    const others = ['b', 'bad', 'c'].map(async (to) => (await fetch(`${url}/mail/${to}`, { method: 'POST' })).status);
    await added.atLeast(4);
    held.open();
    await expect(Promise.all([first, ...others])).resolves.toEqual([201, 201, 503, 201]);
    await runner.onIdle();
    expect(reported).toEqual([expect.stringContaining('last error: too large')]);
    // Together, and then each once, but for the one that is tried again and again.
    expect(
      engine.calls.all
        .flat()
        .filter((to) => to !== 'bad')
        .sort(),
    ).toEqual(['a', 'b', 'b', 'c', 'c']);
  });

  it('a long list goes in pieces, in its order, and takes turns with the lists of others', async () => {
    const { http, url } = await createApp(platform, moduleOf());
    const gateOf = engine.held();
    const long = http.post('/many/650').then(({ status }) => status);
    await engine.calls.atLeast(1);
    const other = fetch(`${url}/mail/b`, { method: 'POST' });
    await added.atLeast(1);
    for (const call of [0, 1, 2, 3]) {
      gateOf(call).open();
      await engine.calls.atLeast(Math.min(call + 2, 4));
      if (call === 1) expect((await other).status).toBe(201);
    }
    await expect(long).resolves.toBe(201);
    expect(engine.calls.all.map(({ length }) => length)).toEqual([200, 200, 200, 51]);
    expect(engine.calls.all[1]).toContain('b');
    expect(engine.calls.all.flat().filter((to) => to !== 'b')).toEqual(range(0, 650));
  });

  it('a call carries only as many long arguments as its deadline allows', async () => {
    const { http } = await createApp(platform, moduleOf());
    await http.post('/long/5').expect(201);
    expect(engine.calls.all.map(({ length }) => length)).toEqual([2, 2, 1]);
  });

  it('a call that hangs holds the next one up for a second, and its own requests alone to the end', async () => {
    const { http, url } = await createApp(platform, moduleOf({ flushTimeout: 10_000 }));
    const gateOf = engine.held();
    const first = http.post('/mail/a').then(({ status }) => status);
    await engine.calls.atLeast(1);
    gateOf(1).open();
    expect((await fetch(`${url}/mail/b`, { method: 'POST' })).status).toBe(201);
    gateOf(0).open();
    await expect(first).resolves.toBe(201);
  });

  it('a long list goes on when its call has taken its time, although nobody else comes', async () => {
    const { http, url } = await createApp(platform, moduleOf({ flushTimeout: 10_000 }));
    const gateOf = engine.held();
    const long = http.post('/many/250').then(({ status }) => status);
    await engine.calls.atLeast(1);
    for (const call of [1, 2]) gateOf(call).open();
    // By then, the call of the long list is not waited for any more.
    expect((await fetch(`${url}/mail/b`, { method: 'POST' })).status).toBe(201);
    gateOf(0).open();
    await expect(long).resolves.toBe(201);
    expect(engine.calls.all.map(({ length }) => length)).toEqual([200, 1, 50]);
  });

  it('a task that a shutdown aborts while it waits for its call is not sent', async () => {
    const { app, http, url } = await createApp(platform, moduleOf({ shutdownTimeout: 50 }));
    const gateOf = engine.held();
    const first = http.post('/mail/a').then(({ status }) => status);
    await engine.calls.atLeast(1);
    const second = fetch(`${url}/mail/b`, { method: 'POST' }).then(({ status }) => status);
    await added.atLeast(2);
    await app.close();
    await expect(Promise.all([first, second])).resolves.toEqual([503, 503]);
    gateOf(0).open();
    expect(engine.calls.all).toEqual([['a']]);
    expect(reported).toHaveLength(2);
  });

  it('if a long list is late, one line reports the tasks that the engine has not taken, and no others', async () => {
    const { http, runner, logs } = await createApp(platform, moduleOf({ flushTimeout: 200 }));
    const held = gate();
    engine.answer = () => (engine.calls.all.length > 1 ? held.opened : undefined);
    await http.post('/many/450').expect(503);
    await runner.onIdle();
    const message =
      'Background tasks "mail" (250) did not get to the engine within the flushTimeout of 200 ms; no answer; 200 others were accepted';
    expect(new Set(reported)).toEqual(new Set([message]));
    expect(reported).toHaveLength(250);
    expect(logs.lines.filter(({ level }) => level === 'error')).toEqual([{ level: 'error', message, stack: undefined }]);
    held.open();
  });

  it('missing answers are logged a few times a second at most, and then counted', async () => {
    const { runner, logs } = await createApp(platform, moduleOf({ flushTimeout: 50 }));
    engine.answer = () => {
      throw new Error('away');
    };
    const mail = (): Promise<unknown> => runner.within((tasks) => tasks.addTask(MailTasks.prototype.mail, 'a'));
    const ends = await Promise.allSettled(Array.from({ length: 30 }, mail));
    expect(new Set(ends.map(({ status }) => status))).toEqual(new Set(['rejected']));
    await runner.onIdle();
    expect(reported).toHaveLength(30);
    await logs.saying('were not logged');
    expect(logs.lines.filter(({ level }) => level === 'error')).toEqual([
      ...Array.from({ length: 5 }, () => ({ level: 'error', message: expect.stringContaining('last error: away'), stack: undefined })),
      { level: 'error', message: 'Within a second, 25 more errors with the code BACKGROUND_TASK_ENGINE were not logged', stack: undefined },
    ]);
  });
});
