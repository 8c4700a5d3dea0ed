// Guarantee 8: a shutdown waits for the tasks of its application, also if a task of another one, or one made by hand, asked for it.
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, type INestApplication, Module, type OnModuleDestroy, Scope } from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { turns } from '../support/turns.js';

const log: string[] = [];
/** Opens when the other application is being closed. */
let closing: Gate;
let toClose: INestApplication;

beforeEach(() => {
  log.length = 0;
  closing = gate();
});

const closeOther = async (): Promise<void> => {
  closing.open();
  await toClose.close();
};

@Controller()
class ClosingController {
  @Get()
  get(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(closeOther);
  }
}

/** Its task ends at the deadline: a shutdown that takes its caller for a task of its own goes on half a second before. */
@Controller()
class SavingController {
  @Get()
  get(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(async () => {
      await once(currentTask()!.signal, 'abort');
      log.push('saved');
    });
  }
}

describe.each(platforms)('on %s', (platform) => {
  const scopes = [Scope.REQUEST, Scope.DEFAULT] as const;
  let closed: Promise<unknown> | undefined;

  afterEach(async () => {
    await closed;
  });

  async function serve(scope: Scope.REQUEST | Scope.DEFAULT) {
    @Module({ imports: [BackgroundTasksModule.forRoot({ scope })], controllers: [ClosingController] })
    class ClosingModule {}

    @Module({ imports: [BackgroundTasksModule.forRoot({ scope, shutdownTimeout: 800 })], controllers: [SavingController] })
    class SavingModule implements OnModuleDestroy {
      onModuleDestroy(): void {
        log.push('disconnected');
      }
    }

    const saving = await createApp(platform, SavingModule);
    toClose = saving.app;
    await saving.http.get('/').expect(200);
    return { saving, other: await createApp(platform, ClosingModule) };
  }

  it.each(scopes)('waits if a task of another application closes this one (scope %s)', async (scope) => {
    const { saving, other } = await serve(scope);
    await other.http.get('/').expect(200);
    await closing.opened;
    await turns();
    expect(log).toEqual([]);
    await other.runner.onIdle();
    expect(log).toEqual(['saved', 'disconnected']);
    expect(saving.logs.of('warn')).toEqual([]);
  });

  it.each(scopes)('waits if a task made by hand closes it (scope %s)', async (scope) => {
    const { saving } = await serve(scope);
    closed = new BackgroundTask(closeOther).run();
    await turns();
    expect(log).toEqual([]);
    await closed;
    expect(log).toEqual(['saved', 'disconnected']);
    expect(saving.logs.of('warn')).toEqual([]);
  });
});
