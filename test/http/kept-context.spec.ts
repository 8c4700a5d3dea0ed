// Guarantee 9: a task that is kept lets go of the async context of its request once it has ended, whatever it was asked for.
import { AsyncLocalStorage } from 'node:async_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, Query } from '@nestjs/common';
import { type BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';
import { turns } from '../support/turns.js';

setFlagsFromString('--expose-gc');
const gc: () => void = runInNewContext('gc');

const storage = new AsyncLocalStorage<object>();
const stores: WeakRef<object>[] = [];
const kept: BackgroundTask[] = [];

beforeEach(() => {
  stores.length = kept.length = 0;
});

const asked: Record<string, (task: BackgroundTask) => unknown> = {
  nothing: () => undefined,
  'its id': (task) => task.id,
  'its end': (task) => task.ended,
  'its signal': (task) => task.signal,
};

@Controller()
class KeepingController {
  @Get()
  get(@Query('ask') ask: string, @BackgroundTasks() tasks: BackgroundTasks) {
    const store = { of: 'the request' };
    stores.push(new WeakRef(store));
    storage.run(store, () => {
      const task = tasks.addTask(() => {});
      asked[ask]!(task);
      kept.push(task);
    });
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [KeepingController] })
class KeepingModule {}

describe.each(platforms)('on %s', (platform) => {
  it.each(Object.keys(asked))('a kept task that was asked for %s', async (ask) => {
    const { http, runner } = await createApp(platform, KeepingModule);
    for (let request = 0; request < 20; request++) await http.get('/').query({ ask }).expect(200);
    await runner.onIdle();
    for (let round = 0; round < 5; round++) {
      await turns();
      gc();
    }
    expect(kept).toHaveLength(20);
    // The last ones may still be on the stack of the engine.
    expect(stores.filter((store) => store.deref()).length).toBeLessThanOrEqual(2);
  });
});

describe.each(platforms)('a list made by hand while a request is handled, on %s', (platform) => {
  it('is no reason for a warning', async () => {
    const entered = gate();
    const held = gate();

    @Controller()
    class SlowController {
      @Get()
      async get() {
        entered.open();
        await held.opened;
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [SlowController] })
    class SlowModule {}

    const { http, logs } = await createApp(platform, SlowModule);
    const answer = http.get('/').then(({ status }) => status);
    await entered.opened;
    const list = new BackgroundTasks();
    list.addTask(() => {});
    await list.run();
    held.open();
    expect(await answer).toBe(200);
    expect(logs.lines).toEqual([]);
  });
});
