// Guarantee 2: tasks start in the order in which they were added, one after the other, but for those that say `parallel`.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { BadRequestException, Controller, Get, Module, Post } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule, type BackgroundTasksModuleOptions, currentTask } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

let log: string[];
let mail: Gate;
let fails: boolean;

beforeEach(() => {
  log = [];
  mail = gate();
  fails = false;
});

describe.each(platforms)('parallel tasks on %s', (platform) => {
  @Controller()
  class OrdersController {
    @Post()
    post(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'before' }, async () => {
        await Promise.resolve();
        log.push('before');
      });
      tasks.addTask({ name: 'mail', parallel: true }, async () => {
        log.push('mail starts');
        await mail.opened;
        log.push('mail ends');
        tasks.addTask(() => log.push('added by the mail'));
        if (fails) throw new Error('the mail fails');
      });
      tasks.addTask({ name: 'audit' }, () => log.push('audit'));
      tasks.addTask({ name: 'on failure', parallel: true, runOn: 'failure' }, () => log.push('on failure'));
    }

    @Post('many')
    many(@BackgroundTasks() tasks: BackgroundTasks) {
      // Longer than a slice of the runner, so that the shutdown aborts the second one in another turn of the event loop.
      const compute = (): void => {
        for (const end = performance.now() + 20; performance.now() < end;);
      };
      for (let n = 0; n < 2; n++) {
        tasks.addTask({ parallel: true }, () => {
          currentTask()!.signal.addEventListener('abort', compute);
          return new Promise(() => undefined);
        });
      }
      for (let n = 0; n < 20; n++) tasks.addTask({ parallel: true }, () => log.push('late'));
    }

    @Get('fails')
    fail(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ parallel: true }, () => log.push('on success'));
      tasks.addTask({ parallel: true, runOn: 'failure' }, () => log.push('on failure'));
      throw new BadRequestException();
    }

    @Get('three')
    three(@BackgroundTasks() tasks: BackgroundTasks) {
      for (const name of ['a', 'b', 'c']) {
        tasks.addTask({ name }, async () => {
          log.push(name);
          await mail.opened;
        });
      }
    }
  }

  const serve = (options: BackgroundTasksModuleOptions = {}) => {
    @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [OrdersController] })
    class OrdersModule {}
    return createApp(platform, OrdersModule);
  };

  it('wait for none before them, and none after them waits for them', async () => {
    const { http, runner, logs } = await serve();
    await http.post('/').expect(201);
    while (!log.includes('audit')) await Promise.resolve().then(() => new Promise(setImmediate));
    expect(log.filter((line) => !line.startsWith('mail'))).toEqual(['before', 'audit']);
    expect(log).toContain('mail starts');
    expect(runner.activeCount).toBe(1);
    mail.open();
    await runner.onIdle();
    expect(log.slice(-2)).toEqual(['mail ends', 'added by the mail']);
    expect(runner.discardedCount).toBe(1);
    expect(logs.of('warn')).toEqual([]);
  });

  it('have the outcome of their request', async () => {
    const { http, runner } = await serve();
    await http.get('/fails').expect(400);
    await runner.onIdle();
    expect(log).toEqual(['on failure']);
  });

  it('are all tasks of a request under the option of the module, within its concurrency', async () => {
    const { http, runner } = await serve({ parallel: true, concurrency: 2 });
    await http.get('/three').expect(200);
    while (log.length < 2) await new Promise(setImmediate);
    expect([runner.activeCount, runner.pendingCount]).toEqual([2, 1]);
    mail.open();
    await runner.onIdle();
    expect(log).toEqual(['a', 'b', 'c']);
  });

  it('fail alone, and stop the others under onTaskFailure: "stop"', async () => {
    fails = true;
    const { http, runner, logs } = await serve({ onTaskFailure: 'stop', concurrency: 1 });
    mail.open();
    await http.post('/').expect(201);
    await runner.onIdle();
    expect(logs.of('error')).toEqual([expect.stringContaining('"mail" failed: the mail fails')]);
    expect(log).not.toContain('added by the mail');
  });

  it('are waited for, and aborted by name, at a shutdown', async () => {
    const { app, http, runner, logs } = await serve({ shutdownTimeout: 20 });
    await http.post('/').expect(201);
    while (!log.includes('audit')) await new Promise(setImmediate);
    await app.close();
    expect(logs.of('error')).toEqual([expect.stringContaining('"mail" was aborted')]);
    mail.open();
    await runner.onIdle();
  });

  it('do not start at the deadline of a shutdown, when an aborted task leaves its place', async () => {
    const { app, http, runner } = await serve({ concurrency: 2, shutdownTimeout: 20 });
    await http.post('/many').expect(201);
    await app.close();
    await runner.onIdle();
    expect(log).toEqual([]);
    expect(runner).toMatchObject({ activeCount: 0, pendingCount: 0 });
  });

  it('can be cancelled, and found, while they wait', async () => {
    const { runner } = await serve({ concurrency: 1 });
    const blocks = runner.addTask(() => mail.opened);
    const waits = runner.addTask({ parallel: true }, () => log.push('never'));
    expect(runner.find(waits.id)).toBe(waits);
    expect(waits.cancel()).toBe(true);
    mail.open();
    expect([await blocks.ended, await waits.ended]).toEqual(['completed', 'cancelled']);
    await runner.onIdle();
    expect(log).toEqual([]);
  });
});
