// Guarantee 9: nothing of a finished request is retained.
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Controller, Get, Module, NotFoundException, Param, Req } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

setFlagsFromString('--expose-gc');
const gc: () => void = runInNewContext('gc');

// A collection takes its time in a process that has seen many specs.
jest.setTimeout(60_000);

describe.each(platforms)('the objects of a finished request on %s', (platform) => {
  let slow: Gate;

  afterEach(() => slow.open());

  async function serve() {
    const refs = new Map<string, WeakRef<object>>();
    slow = gate();

    /** Called with the argument of a task, and with the value that its closure holds. */
    const use = (...objects: object[]): number => objects.length;

    @Controller()
    class MemoryController {
      @Get(':case')
      get(@Req() request: { raw?: object }, @Param('case') path: string, @BackgroundTasks() tasks: BackgroundTasks) {
        const closure = { held: 'by the closure' };
        const argument = { held: 'as an argument' };
        const task = (given: object): number => use(given, closure, request);
        tasks.addTask(task, argument);
        if (path === 'sibling') for (let n = 0; n < 2; n++) tasks.addTask(sibling, slow.opened);
        if (path === 'gives-up') tasks.addTask({ timeout: 5 }, async () => use(await new Promise<object>(() => {}), closure));
        const objects = { closure, argument, task, request, raw: request.raw ?? request, tasks };
        for (const [name, object] of Object.entries(objects)) refs.set(name, new WeakRef(object));
        if (path === 'fails') throw new NotFoundException();
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [MemoryController] })
    class MemoryModule {}

    return { ...(await createApp(platform, MemoryModule)), refs };
  }

  /** The names of those that are still there, when no more than so many are, or after some time. */
  async function retained(refs: Map<string, WeakRef<object>>, expected = 0): Promise<string[]> {
    for (let attempt = 1; ; attempt++) {
      // A socket lets go of its request some turns after it has closed.
      for (let turn = 0; turn < 10; turn++) await setImmediate();
      gc();
      const names = [...refs].filter(([, ref]) => ref.deref()).map(([name]) => name);
      if (names.length <= expected || attempt === 5) return names;
    }
  }

  it.each(['succeeds', 'fails', 'gives-up'])('are collectable when it %s', async (path) => {
    const { http, runner, refs } = await serve();
    await http.get(`/${path}`);
    await runner.onIdle();
    expect(refs.size).toBe(6);
    expect(await retained(refs)).toEqual([]);
  });

  it('are collectable while one of its tasks runs on and another one waits', async () => {
    const { http, runner, refs } = await serve();
    await http.get('/sibling').expect(200);
    expect(await retained(refs)).toEqual([]);
    expect(runner.activeCount).toBe(1);
    slow.open();
    await runner.onIdle();
    expect(await retained(refs)).toEqual([]);
  });
});

/** In no closure of the request's, which would hold the rest of it. */
const sibling = (end: Promise<void>): Promise<void> => end;
