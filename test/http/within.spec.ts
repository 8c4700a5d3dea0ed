// Public API: `runner.within()` gives a unit of work outside a request its own list.
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, Scope } from '@nestjs/common';
import {
  BackgroundTask,
  BackgroundTasks,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  BackgroundTasksRunner,
} from 'nestjs-background-tasks';
import { createApp } from '../support/app.js';
import { gate } from '../support/gate.js';

const log: string[] = [];

@Injectable()
class Outbox {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Controller()
class JobController {
  constructor(private readonly runner: BackgroundTasksRunner) {}

  /** A unit of work of its own, within a request. */
  @Get()
  async get(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => log.push('task of the request'));
    await this.runner.within((own) => own.addTask(() => log.push('task of the unit')));
    await setImmediate();
    await setImmediate();
    log.push('handler ends');
  }
}

function moduleWith(
  options: BackgroundTasksModuleOptions & { scope?: Scope.DEFAULT },
  providers: NonNullable<Parameters<typeof Module>[0]['providers']> = [],
) {
  log.splice(0);
  @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [JobController], providers })
  class JobModule {}
  return JobModule;
}

describe('runner.within()', () => {
  it('runs the tasks in order once the function has settled, and returns what it returns', async () => {
    const { runner } = await createApp('Express', moduleWith({}));
    const result = await runner.within(async (tasks) => {
      tasks.addTask((name: string) => log.push(name), 'first');
      await setImmediate();
      await setImmediate();
      tasks.addTask((name: string) => log.push(name), 'second');
      log.push('function ends');
      return 42;
    });
    expect(result).toBe(42);
    await runner.onIdle();
    expect(log).toEqual(['function ends', 'first', 'second']);
  });

  it.each([
    [
      'throws',
      (error: Error) => {
        throw error;
      },
    ],
    ['rejects', (error: Error) => Promise.reject(error)],
  ])('a function that %s makes the outcome a failure, and its error is thrown on', async (_, fail) => {
    const { runner, logs } = await createApp('Express', moduleWith({}));
    const error = new Error('the job fails');
    const job = runner.within((tasks) => {
      tasks.addTask({ name: 'on success' }, () => log.push('on success'));
      tasks.addTask({ runOn: 'failure' }, () => log.push('on failure'));
      tasks.addTask({ runOn: 'always' }, () => log.push('always'));
      return fail(error);
    });
    await expect(job).rejects.toBe(error);
    await runner.onIdle();
    expect(log).toEqual(['on failure', 'always']);
    expect(runner.discardedCount).toBe(1);
    expect(logs.of('debug')).toEqual([
      'Background task "on success" was discarded: it runs on success, and the outcome of its request was failure',
    ]);
  });

  it('is a unit of its own within a request, and within another', async () => {
    const { http, runner } = await createApp('Express', moduleWith({}));
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(log.splice(0)).toEqual(['task of the unit', 'handler ends', 'task of the request']);
    await runner.within(async (outer) => {
      outer.addTask(() => log.push('outer'));
      await runner.within((inner) => inner.addTask(() => log.push('inner'))).then(() => runner.within(() => undefined));
      await setImmediate();
      await setImmediate();
      log.push('outer ends');
    });
    await runner.onIdle();
    expect(log).toEqual(['inner', 'outer ends', 'outer']);
  });

  it('app.close() waits for it, and for its tasks', async () => {
    const { app, runner } = await createApp('Express', moduleWith({}));
    const held = gate();
    const job = runner.within(async (tasks) => {
      await held.opened;
      tasks.addTask(() => log.push('ran'));
    });
    const closed = app.close().then(() => log.push('closed'));
    await setImmediate();
    held.open();
    await job;
    await closed;
    expect(log).toEqual(['ran', 'closed']);
    await expect(runner.within((tasks) => tasks.addTask(() => undefined))).rejects.toMatchObject({ code: 'BACKGROUND_TASK_SHUTDOWN' });
  });

  it('a task that comes too late starts at once, with a warning', async () => {
    const { runner, logs } = await createApp('Express', moduleWith({}));
    let kept: Pick<BackgroundTasks, 'addTask'> | undefined;
    await runner.within((tasks) => void (kept = tasks));
    kept!.addTask({ name: 'late' }, () => log.push('late'));
    await runner.onIdle();
    expect(log).toEqual(['late']);
    expect(logs.of('warn')).toEqual([expect.stringMatching('Background task "late" was added after its request was over')]);
  });

  it('refuses what is no function', async () => {
    const { runner } = await createApp('Express', moduleWith({}));
    const promise = Promise.resolve() as never;
    await expect(runner.within(promise)).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_INVALID_TASK',
      message: 'Expected the argument of within() to be a function, got a promise',
    });
  });

  describe('under Scope.DEFAULT', () => {
    const { DEFAULT: scope } = Scope;

    it('injected lists follow the unit of work, also after an await, and units do not mix', async () => {
      const { app, runner } = await createApp('Express', moduleWith({ scope }, [Outbox]));
      const { tasks } = app.get(Outbox);
      const job = async (name: string): Promise<void> => {
        await runner.within(async (list) => {
          tasks.addTask({ name }, () => log.push(name));
          await setImmediate();
          await setImmediate();
          tasks.addTask({ name: `${name} again` }, () => log.push(`${name} again`));
          expect(tasks.tasks.map((task) => task.name)).toEqual([name, `${name} again`]);
          expect(list.tasks).toEqual(tasks.tasks);
          expect(log).toEqual([]);
          if (name === 'b') throw new Error('b fails');
        });
      };
      const [a, b] = await Promise.allSettled([job('a'), job('b')]);
      expect([a?.status, b?.status]).toEqual(['fulfilled', 'rejected']);
      expect(tasks.tasks).toEqual([]);
      await runner.onIdle();
      expect(log).toEqual(['a', 'a again']);
    });

    it('code that outlives the unit of work has its task start at once, without a warning', async () => {
      const { app, runner, logs } = await createApp('Express', moduleWith({ scope }, [Outbox]));
      const { tasks } = app.get(Outbox);
      const over = gate();
      let listener: Promise<void> | undefined;
      await runner.within(() => {
        listener = over.opened.then(() => void tasks.addTask({ name: 'late' }, () => log.push('late')));
      });
      over.open();
      await listener;
      await runner.onIdle();
      expect(log).toEqual(['late']);
      expect(logs.lines).toEqual([
        { level: 'debug', message: 'Background task "late" was added after its request was over, and starts at once' },
      ]);
    });
  });

  describe('with an engine', () => {
    class MailTasks {
      @BackgroundTask('mail')
      mail(): void {}
    }

    const handedOver: string[] = [];

    const engineThat = (enqueue: () => Promise<void>) => ({
      enqueue: async (entries: readonly { name: string }[]) => {
        await enqueue();
        handedOver.push(...entries.map(({ name }) => name));
      },
      work: () => undefined,
      close: async () => undefined,
    });

    it('ends when the engine has its tasks', async () => {
      const taken = gate();
      const { runner } = await createApp('Express', moduleWith({ engine: engineThat(() => taken.opened) }, [MailTasks]));
      const job = runner.within((tasks) => tasks.addTask(MailTasks.prototype.mail)).then(() => log.push('job ends'));
      await setImmediate();
      expect([log, handedOver.splice(0)]).toEqual([[], []]);
      taken.open();
      await job;
      expect(handedOver.splice(0)).toEqual(['mail']);
    });

    it('fails if the engine does not take them', async () => {
      const away = engineThat(() => Promise.reject(new Error('away')));
      const { runner } = await createApp('Express', moduleWith({ engine: away, flushTimeout: 60 }, [MailTasks]));
      const job = runner.within((tasks) => {
        tasks.addTask(MailTasks.prototype.mail);
        tasks.addTask(() => log.push('on success'));
        tasks.addTask({ runOn: 'failure' }, () => log.push('on failure'));
      });
      await expect(job).rejects.toMatchObject({ code: 'BACKGROUND_TASK_ENGINE' });
      await runner.onIdle();
      expect(log).toEqual(['on failure']);
    });
  });
});
