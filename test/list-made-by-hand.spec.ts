import { describe, expect, it } from '@jest/globals';
import { BackgroundTask, BackgroundTasks, BackgroundTasksError, BackgroundTasksTimeoutError, currentTask } from 'nestjs-background-tasks';

// What a unit test of a controller does, without Nest.

describe('a list made by hand', () => {
  it('keeps what was added, and runs it when told to', async () => {
    const ran: string[] = [];
    const tasks = new BackgroundTasks();
    tasks.addTask((to: string) => ran.push(to), 'foo@example.com');
    tasks.addTask({ name: 'second' }, async () => void ran.push('second'));
    expect(tasks.tasks.map(({ args }) => args)).toEqual([['foo@example.com'], []]);
    expect(ran).toEqual([]);
    await tasks.run();
    expect(ran).toEqual(['foo@example.com', 'second']);
  });

  it('starts from tasks made by hand', async () => {
    const ran: number[] = [];
    const tasks = new BackgroundTasks([
      new BackgroundTask((n: number) => ran.push(n), 1),
      new BackgroundTask((n: number) => ran.push(n), 2),
    ]);
    await tasks.run();
    expect(ran).toEqual([1, 2]);
  });

  it('hands out a copy of its tasks', () => {
    const tasks = new BackgroundTasks();
    (tasks.tasks as BackgroundTask[]).push(new BackgroundTask(() => {}));
    expect(tasks.tasks).toEqual([]);
  });

  it('runs tasks that its tasks add, and every task once', async () => {
    const ran: string[] = [];
    const tasks = new BackgroundTasks();
    tasks.addTask(() => {
      ran.push('first');
      tasks.addTask(() => ran.push('nested'));
    });
    tasks.addTask(() => ran.push('second'));
    await tasks.run();
    await tasks.run();
    expect(ran).toEqual(['first', 'second', 'nested']);
  });

  it('rejects with the error of the task that failed, after its siblings ran', async () => {
    const ran: string[] = [];
    const error = new Error('failed');
    const tasks = new BackgroundTasks();
    tasks.addTask(() => {
      throw error;
    });
    tasks.addTask(() => ran.push('sibling'));
    await expect(tasks.run()).rejects.toBe(error);
    expect(ran).toEqual(['sibling']);
  });

  it('rejects with an AggregateError if several failed', async () => {
    const tasks = new BackgroundTasks();
    tasks.addTask(() => Promise.reject(new Error('one')));
    tasks.addTask(() => Promise.reject(new Error('two')));
    await expect(tasks.run()).rejects.toMatchObject({
      name: 'AggregateError',
      message: '2 background tasks failed',
      errors: [new Error('one'), new Error('two')],
    });
  });

  it('rejects although what was thrown is undefined', async () => {
    const tasks = new BackgroundTasks();
    tasks.addTask(() => Promise.reject(undefined));
    await expect(tasks.run()).rejects.toBeUndefined();
  });

  it('runs a task whatever its runOn: there is no request to fail', async () => {
    const ran: string[] = [];
    const tasks = new BackgroundTasks();
    tasks.addTask({ runOn: 'failure' }, () => ran.push('on failure'));
    await tasks.run();
    expect(ran).toEqual(['on failure']);
  });
});

describe('BackgroundTask', () => {
  function sendMail(_to: string, _subject?: string): void {}

  it.each([
    ['its function', new BackgroundTask(sendMail, 'a'), 'sendMail'],
    ['its option', new BackgroundTask({ name: 'mail' }, sendMail, 'a'), 'mail'],
    ['nothing', new BackgroundTask(() => {}), 'anonymous'],
  ])('is named by %s', (_, task, name) => {
    expect(task.name).toBe(name);
    expect(task).toBeInstanceOf(BackgroundTask);
    expect(BackgroundTask.name).toBe('BackgroundTask');
  });

  it('keeps its function, arguments and options', () => {
    const task = new BackgroundTask({ timeout: 5, runOn: 'always' }, sendMail, 'a', 'b');
    expect(task.func).toBe(sendMail);
    expect(task.args).toEqual(['a', 'b']);
    expect(task.options).toEqual({ timeout: 5, runOn: 'always' });
  });

  it('calls its function without a this', async () => {
    let self: unknown = 'not called';
    await new BackgroundTask(function (this: unknown) {
      self = this;
    }).run();
    expect(self).toBeUndefined();
  });

  it('is the current task while it runs, also when it runs another', async () => {
    const names: (string | undefined)[] = [];
    const inner = new BackgroundTask({ name: 'inner' }, () => void names.push(currentTask()?.name));
    const outer = new BackgroundTask({ name: 'outer' }, () => {
      void inner.run();
      names.push(currentTask()?.name);
    });
    await outer.run();
    expect(names).toEqual(['inner', 'outer']);
    expect(currentTask()).toBeUndefined();
  });

  it('is given up at its timeout: run() rejects, and the signal fires with the same error', async () => {
    let signal: AbortSignal | undefined;
    const task = new BackgroundTask({ name: 'endless', timeout: 1 }, () => {
      signal = currentTask()?.signal;
      return new Promise(() => {});
    });
    const error: unknown = await task.run().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BackgroundTasksTimeoutError);
    expect(error).toMatchObject({ code: 'TIMEOUT', task: 'endless', timeout: 1 });
    expect(signal?.aborted).toBe(true);
    expect(signal?.reason).toBe(error);
  });
});

describe('bad input to addTask', () => {
  const noop = () => {};
  it.each<[string, unknown[], string, string]>([
    ['nothing', [], 'INVALID_TASK', 'Expected a task to be a function, or options and a function, got `undefined`'],
    ['a string', ['mail'], 'INVALID_TASK', 'Expected a task to be a function, or options and a function, got `mail` (string)'],
    [
      'a promise, of a function that was called',
      [Promise.resolve()],
      'INVALID_TASK',
      'got a promise; pass the function itself, and do not call it',
    ],
    ['options alone', [{ name: 'x' }], 'INVALID_TASK', 'got an object'],
    ['options and no function', [{ name: 'x' }, 'y'], 'INVALID_TASK', 'got `y` (string)'],
    ['null for options', [null, noop], 'INVALID_OPTION', 'Expected the options of addTask() to be an object, got `null`'],
    [
      'an unknown option',
      [{ delay: 5 }, noop],
      'INVALID_OPTION',
      'Unknown option `delay` of addTask(), expected one of `name`, `timeout`, `runOn`',
    ],
    [
      'an unknown runOn',
      [{ runOn: 'later' }, noop],
      'INVALID_OPTION',
      "the option `runOn` of addTask() to be 'success' or 'failure' or 'always', got `later` (string)",
    ],
    ['an empty name', [{ name: '' }, noop], 'INVALID_OPTION', 'the option `name` of addTask() to be a non-empty string, got `` (string)'],
    [
      'a bad timeout',
      [{ timeout: Number.NaN }, noop],
      'INVALID_OPTION',
      'the option `timeout` of addTask() to be milliseconds, an integer from 1 to 2147483647, got `NaN` (number)',
    ],
  ])('%s', (_, args, code, message) => {
    const tasks = new BackgroundTasks();
    const add = () => Reflect.apply(tasks.addTask.bind(tasks), undefined, args);
    expect(add).toThrow(BackgroundTasksError);
    expect(add).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
    expect(tasks.tasks).toEqual([]);
  });
});
