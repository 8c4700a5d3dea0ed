// Guarantee 13: lists and tasks that code of users has frozen, sealed or proxied work, or are refused in the caller; the process lives on.
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, type INestApplication, Module, type PipeTransform, Scope } from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';

const uncaught: unknown[] = [];
const ran: string[] = [];
const keep = (error: unknown): void => void uncaught.push(error);

beforeEach(() => {
  uncaught.length = ran.length = 0;
  process.on('uncaughtException', keep).on('unhandledRejection', keep);
});

afterEach(() => {
  process.off('uncaughtException', keep).off('unhandledRejection', keep);
  expect(uncaught).toEqual([]);
});

/** Freezes what it is given, and all that this holds in properties of its own, as `deep-freeze` does. */
function deepFreeze(value: unknown, seen = new Set<unknown>()): unknown {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null || seen.has(value)) return value;
  seen.add(value);
  Object.freeze(value);
  for (const name of Object.getOwnPropertyNames(value)) {
    // Functions of sloppy mode have properties that throw.
    const descriptor = Object.getOwnPropertyDescriptor(value, name);
    if (descriptor && 'value' in descriptor) deepFreeze(descriptor.value, seen);
  }
  return value;
}

/** A proxy that does nothing of its own, as libraries make them that observe or mock. */
function proxied<T extends object>(target: T): T {
  return new Proxy(target, {});
}

@Controller()
class TasksController {
  @Get('list')
  list(@BackgroundTasks() tasks: BackgroundTasks) {
    addOutcomeTasks(tasks, (name) => ran.push(name));
    expect(tasks.tasks).toHaveLength(3);
    return 'answer';
  }

  @Get('tasks')
  tasks(@BackgroundTasks() tasks: BackgroundTasks) {
    const protections: Record<string, (task: BackgroundTask) => unknown> = { frozen: Object.freeze, sealed: Object.seal, deep: deepFreeze };
    for (const [name, protect] of Object.entries(protections)) {
      const task = tasks.addTask({ name }, () => void ran.push(`${name}: ${currentTask()!.name}`));
      protect(task);
      expect(task.id).toEqual(expect.any(String));
      void task.ended.then((end) => ran.push(end));
    }
    const cancelled = Object.freeze(tasks.addTask(() => ran.push('cancelled')));
    expect(cancelled.cancel()).toBe(true);
    Object.freeze(
      tasks.addTask({ name: 'signal', timeout: 5 }, () => {
        const { signal } = currentTask()!;
        return new Promise((resolve) => signal.addEventListener('abort', resolve));
      }),
    );
    return 'answer';
  }

  @Get('proxied-task')
  proxiedTask(@BackgroundTasks() tasks: BackgroundTasks) {
    const task = proxied(tasks.addTask(() => ran.push('behind a proxy')));
    try {
      return `its name is ${task.name}`;
    } catch (error) {
      return String(error);
    }
  }
}

function serve(
  platform: (typeof platforms)[number],
  transform?: PipeTransform['transform'],
  scope: Scope.DEFAULT | Scope.REQUEST = Scope.REQUEST,
) {
  @Module({ imports: [BackgroundTasksModule.forRoot({ scope })], controllers: [TasksController] })
  class TasksModule {}
  const configure = (app: INestApplication): void => void (transform && app.useGlobalPipes({ transform }));
  return createApp(platform, TasksModule, { configure });
}

describe.each(platforms)('on %s', (platform) => {
  it.each<[string, PipeTransform['transform']]>([
    ['freezes', (value) => Object.freeze(value)],
    ['seals', (value) => Object.seal(value)],
    ['freezes, with all that they hold,', (value) => deepFreeze(value)],
    ['puts a proxy in front of', (value) => (typeof value === 'object' && value !== null ? proxied(value) : value)],
  ])('a global pipe that %s what handlers are given leaves the list working', async (_, transform) => {
    for (const scope of [Scope.REQUEST, Scope.DEFAULT] as const) {
      ran.length = 0;
      const { http, runner } = await serve(platform, transform, scope);
      await http.get('/list').expect(200, 'answer');
      await runner.onIdle();
      expect(ran).toEqual(['success', 'always']);
      await http.get('/list').expect(200, 'answer');
      await runner.onIdle();
      expect(ran).toEqual(['success', 'always', 'success', 'always']);
    }
  });

  it('frozen and sealed tasks run, end, time out and are cancelled', async () => {
    const { http, runner, logs } = await serve(platform);
    await http.get('/tasks').expect(200, 'answer');
    await runner.onIdle();
    expect(ran.filter((line) => line !== 'completed')).toEqual(['frozen: frozen', 'sealed: sealed', 'deep: deep']);
    expect(ran).toHaveLength(6);
    expect(logs.of('error')).toEqual([
      expect.stringMatching(/^Background task "signal" did not end within its timeout of 5 ms and was aborted/),
    ]);
  });

  it('a task runs although a proxy of it is of no use', async () => {
    const { http, runner } = await serve(platform);
    await http.get('/proxied-task').expect(200, /^TypeError/);
    await runner.onIdle();
    expect(ran).toEqual(['behind a proxy']);
  });
});

describe('a list made by hand', () => {
  const make = (): BackgroundTask => new BackgroundTask(() => void ran.push('task'));

  it.each<[string, () => BackgroundTasks]>([
    ['that is frozen', () => Object.freeze(new BackgroundTasks([make()]))],
    ['of a frozen array, and of a frozen task', () => new BackgroundTasks(Object.freeze([Object.freeze(make())]))],
    ['that is frozen with all that it holds', () => deepFreeze(new BackgroundTasks([make()])) as BackgroundTasks],
    ['behind a proxy', () => proxied(new BackgroundTasks([make()]))],
  ])('%s runs', async (_, list) => {
    const tasks = list();
    tasks.addTask(() => void ran.push('another one'));
    await tasks.run();
    expect(ran).toEqual(['task', 'another one']);
  });

  it('refuses a proxy of a task', () => {
    expect(() => new BackgroundTasks([proxied(make())])).toThrow(expect.objectContaining({ code: 'BACKGROUND_TASK_INVALID_TASK' }));
  });
});
