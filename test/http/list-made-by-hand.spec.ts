// Public API: `new BackgroundTasks()` and `new BackgroundTask()`, run by hand in a unit test.
import { inspect } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { BackgroundTask, BackgroundTasks, BackgroundTasksError, BackgroundTasksTimeoutError, currentTask } from 'nestjs-background-tasks';
import { gate } from '../support/gate.js';

// A unit test of a controller, without Nest.

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

  it('is run by one run() at a time', async () => {
    const opened = gate();
    const task = new BackgroundTask({ name: 'once at a time' }, () => opened.opened);
    const first = task.run();
    await expect(task.run()).rejects.toMatchObject({
      code: 'BACKGROUND_TASK_INVALID_TASK',
      message: expect.stringContaining('"once at a time" is already running'),
    });
    opened.open();
    await first;
    await task.run();
  });

  it('awaits whatever `await` would, a function with a `then` included', async () => {
    const opened = gate();
    const callable = Object.assign(() => {}, { then: opened.opened.then.bind(opened.opened) });
    let ended = false;
    const run = new BackgroundTask(() => callable).run().then(() => (ended = true));
    await new Promise(setImmediate);
    expect(ended).toBe(false);
    opened.open();
    await run;
  });

  it.each([
    ['a symbol', { value: Symbol('odd') }],
    ['a number', { value: 5 }],
    ['nothing', { value: '' }],
    [
      'an error',
      {
        get: (): never => {
          throw new Error('gotcha');
        },
      },
    ],
  ])('is anonymous if its function has %s for its name', (_, name) => {
    expect(new BackgroundTask(Object.defineProperty(() => {}, 'name', name)).name).toBe('anonymous');
  });

  it('shows its name, and not its arguments, where it is logged or sent', () => {
    const tasks = new BackgroundTasks([new BackgroundTask(sendMail, 'a', 'b')]);
    tasks.addTask(sendMail, 'c', 'd');
    expect(JSON.stringify(tasks)).toBe('[{"name":"sendMail"},{"name":"sendMail"}]');
    expect(inspect({ tasks }, { breakLength: Infinity })).toBe(
      "{ tasks: BackgroundTasks [ BackgroundTask { name: 'sendMail' }, BackgroundTask { name: 'sendMail' } ] }",
    );
  });

  it('is aborted at its timeout: run() rejects, and the signal fires with the same error', async () => {
    let signal: AbortSignal | undefined;
    const task = new BackgroundTask({ name: 'endless', timeout: 1 }, () => {
      signal = currentTask()?.signal;
      return new Promise(() => {});
    });
    const error: unknown = await task.run().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BackgroundTasksTimeoutError);
    expect(error).toMatchObject({ code: 'BACKGROUND_TASK_TIMEOUT', task: 'endless', timeout: 1 });
    expect(signal?.aborted).toBe(true);
    expect(signal?.reason).toBe(error);
  });
});

describe('addTask() refuses', () => {
  const noop = () => {};
  it.each<[string, unknown[], string, string]>([
    [
      'nothing, of a function that was called',
      [],
      'BACKGROUND_TASK_INVALID_TASK',
      'Expected a task to be a function, or options and a function (the function itself, not its result), got `undefined`',
    ],
    // The value that a called function returned may be personal data.
    ['a string', ['mail'], 'BACKGROUND_TASK_INVALID_TASK', 'got a string'],
    ['a promise, of a function that was called', [Promise.resolve()], 'BACKGROUND_TASK_INVALID_TASK', 'got a promise'],
    ['options alone', [{ name: 'x' }], 'BACKGROUND_TASK_INVALID_TASK', 'got an object'],
    ['options and no function', [{ name: 'x' }, 'y'], 'BACKGROUND_TASK_INVALID_TASK', 'got a string'],
    ['null for options', [null, noop], 'BACKGROUND_TASK_INVALID_OPTION', 'Expected the options of addTask() to be an object, got `null`'],
    [
      'an unknown option',
      [{ dely: 5 }, noop],
      'BACKGROUND_TASK_INVALID_OPTION',
      'Unknown option `dely` of addTask(), expected one of `name`, `timeout`, `runOn`',
    ],
    [
      'an unknown runOn',
      [{ runOn: 'later' }, noop],
      'BACKGROUND_TASK_INVALID_OPTION',
      "the option `runOn` of addTask() to be 'success' or 'failure' or 'always', got `later` (string)",
    ],
    [
      'an empty name',
      [{ name: '' }, noop],
      'BACKGROUND_TASK_INVALID_OPTION',
      'the option `name` of addTask() to be a non-empty string, got `` (string)',
    ],
    [
      'a bad timeout',
      [{ timeout: Number.NaN }, noop],
      'BACKGROUND_TASK_INVALID_OPTION',
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

describe('new BackgroundTasks() refuses', () => {
  it.each([
    ['functions', [() => 1], 'an array'],
    ['a string', 'tasks', 'a string'],
    ['a hole', [null], 'an array'],
  ])('%s', (_, tasks, got) => {
    expect(() => Reflect.construct(BackgroundTasks, [tasks])).toThrow(
      `Expected the tasks of a list made by hand to be an array of BackgroundTask, or nothing, got ${got}`,
    );
  });
});
