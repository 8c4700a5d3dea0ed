// Guarantee 5: what is logged of a failing task is bounded, and its name stays on one line.
import { describe, expect, it } from '@jest/globals';
import { Controller, Get, Module } from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, type BackgroundTasksModuleOptions } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

/** The characters that the log of one failure takes at most. */
const MOST = 8_000;

describe.each(platforms)('the log of one failure on %s', (platform) => {
  async function linesOf(name: string, error: () => unknown, options: BackgroundTasksModuleOptions = {}) {
    @Controller()
    class FailingController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask({ name }, () => {
          throw error();
        });
        tasks.addTask({ name, runOn: 'failure' }, () => {});
      }
    }

    @Module({ imports: [BackgroundTasksModule.forRoot(options)], controllers: [FailingController] })
    class FailingModule {}

    const { http, runner, logs } = await createApp(platform, FailingModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    return logs.lines.filter(({ level }) => level !== 'log');
  }

  /** Errors that hold each other. */
  function knot(): Error {
    const all = Array.from({ length: 5 }, (_, n) => new AggregateError([], `knot ${n}`));
    for (const each of all) {
      each.errors.push(...all);
      each.cause = all;
    }
    return all[0]!;
  }

  function longChain(): Error {
    let error = new Error('the first');
    for (let n = 0; n < 10_000; n++) error = new Error(`then ${n}`, { cause: error });
    return error;
  }

  it.each<[string, () => unknown]>([
    ['errors that contain each other', knot],
    ['a long chain of causes', longChain],
    [
      'many errors in one',
      () =>
        new AggregateError(
          Array.from({ length: 10_000 }, (_, n) => new Error(`error ${n}`)),
          'many',
        ),
    ],
    ['a long message', () => new Error('x'.repeat(1_000_000))],
    ['a long text', () => 'x'.repeat(1_000_000)],
    ['a large object', () => Array.from({ length: 100 }, (_, n) => ({ n, text: 'x'.repeat(10_000) }))],
    ['a long stack', () => Object.assign(new Error('deep'), { stack: `Error: deep\n${'    at somewhere\n'.repeat(100_000)}` })],
  ])('is a few kilobytes at most: %s', async (_, error) => {
    const [line] = await linesOf('failing', error);
    expect(line!.message).toMatch(/^Background task "failing" failed: /);
    expect(line!.message.length + (line!.stack ?? '').length).toBeLessThan(MOST);
  });

  it('says that it has left something out', async () => {
    const [line] = await linesOf('failing', () => new Error(`${'x'.repeat(100_000)} the end`));
    expect(line!.message).toMatch(/x… \(98\d\d\d more characters\)$/);
  });

  it('has the name of the task in one line, whatever is in it', async () => {
    const name = 'of "a user"\nERROR [Payments] all is lost \u001b[31m\u2028\u009b31m';
    const shown = String.raw`of \"a user\"\nERROR [Payments] all is lost \u001b[31m\u2028\u009b31m`;
    const lines = await linesOf(name, () => new Error('oh'));
    expect(lines.map(({ message }) => message)).toEqual([
      `Background task "${shown}" failed: oh`,
      `Background task "${shown}" was discarded: it runs on failure, and the outcome of its request was success`,
    ]);
  });

  it('has the name of the task in one line, too, if it is about the option around', async () => {
    const [line] = await linesOf('a\nb', () => new Error('oh'), { around: () => undefined });
    expect(line!.message).toMatch(/^Background task "a\\nb" was not run: the option `around`/);
  });

  it('has only the beginning of a very long name', async () => {
    const [line] = await linesOf('n'.repeat(10_000), () => new Error('oh'));
    expect(line!.message).toMatch(/^Background task "n{200}…" failed: oh$/);
  });

  it("has the name of the task in one line in this package's own errors, too", async () => {
    const task = new BackgroundTask({ name: 'a\nb', timeout: 1 }, () => new Promise(() => {}));
    await expect(task.run()).rejects.toMatchObject({
      message: expect.stringContaining('Background task "a\\nb" did not end'),
      task: 'a\nb',
    });
  });
});
