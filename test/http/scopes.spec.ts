// Public API: how the scope of a configured import holds for plain imports, and what conflicts.
import { describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, Scope, type Type } from '@nestjs/common';
import { EventEmitter2, EventEmitterModule, OnEvent } from '@nestjs/event-emitter';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

type Imports = NonNullable<Parameters<typeof Module>[0]['imports']>;

describe.each(platforms)('a plain import beside a configured one, on %s', (platform) => {
  const made = { theirs: 0, mine: 0, elsewhere: 0 };

  @Injectable()
  class Theirs {
    constructor(readonly tasks: BackgroundTasks) {
      made.theirs += 1;
    }
  }

  /** A module of a third party, which the application cannot edit. */
  @Module({ imports: [BackgroundTasksModule], providers: [Theirs], exports: [Theirs] })
  class ThirdPartyModule {}

  @Injectable()
  class Elsewhere {
    constructor(readonly tasks: BackgroundTasks) {
      made.elsewhere += 1;
    }
  }

  @Module({ providers: [Elsewhere], exports: [Elsewhere] })
  class ModuleWithoutImport {}

  @Injectable()
  class Mine {
    constructor(
      readonly tasks: BackgroundTasks,
      readonly theirs: Theirs,
      readonly elsewhere: Elsewhere,
    ) {
      made.mine += 1;
    }
  }

  @Controller()
  class AppController {
    constructor(private readonly mine: Mine) {}
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      const { mine } = this;
      mine.tasks.addTask(function mine() {});
      mine.theirs.tasks.addTask(function theirs() {});
      mine.elsewhere.tasks.addTask(function elsewhere() {});
      tasks.addTask(function parameter() {});
      return [tasks, mine.tasks, mine.theirs.tasks, mine.elsewhere.tasks].map((list) => list.tasks.map(({ name }) => name).join());
    }
  }

  function moduleWith(...imports: Imports): Type {
    @Module({ imports, controllers: [AppController], providers: [Mine] })
    class AppModule {}
    return AppModule;
  }

  const configured = (): Imports[number] => BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT });

  it.each<[string, () => Imports, typeof made]>([
    ['before it', () => [ThirdPartyModule, ModuleWithoutImport, configured()], { theirs: 1, mine: 1, elsewhere: 1 }],
    ['after it', () => [configured(), ModuleWithoutImport, ThirdPartyModule], { theirs: 1, mine: 1, elsewhere: 1 }],
    [
      'in the same module',
      () => [BackgroundTasksModule, ThirdPartyModule, ModuleWithoutImport, configured()],
      { theirs: 1, mine: 1, elsewhere: 1 },
    ],
    [
      'of the default',
      () => [ThirdPartyModule, ModuleWithoutImport, BackgroundTasksModule.forRoot()],
      { theirs: 2, mine: 2, elsewhere: 2 },
    ],
    ['and nothing else', () => [ThirdPartyModule, ModuleWithoutImport], { theirs: 2, mine: 2, elsewhere: 2 }],
  ])('follows its scope: %s', async (_, imports, expected) => {
    Object.assign(made, { theirs: 0, mine: 0, elsewhere: 0 });
    const { app, http, runner } = await createApp(platform, moduleWith(...imports()));
    for (const _request of [1, 2])
      await http.get('/').expect(
        200,
        Array.from({ length: 4 }, () => 'mine,theirs,elsewhere,parameter'),
      );
    await runner.onIdle();
    expect(made).toEqual(expected);
    // The singleton, if there is one; a list of a request is nothing to get.
    const get = (): unknown => app.get(BackgroundTasks);
    if (expected.mine === 1) expect(get()).toBeInstanceOf(BackgroundTasks);
    else expect(get).toThrow('resolve()');
  });

  it('works beside a configuration that is not global', async () => {
    Object.assign(made, { theirs: 0, mine: 0, elsewhere: 0 });
    const local = BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT, isGlobal: false });
    const { http } = await createApp(platform, moduleWith(ThirdPartyModule, ModuleWithoutImport, local));
    for (const _request of [1, 2])
      await http.get('/').expect(
        200,
        Array.from({ length: 4 }, () => 'mine,theirs,elsewhere,parameter'),
      );
    expect(made).toEqual({ theirs: 2, mine: 2, elsewhere: 2 });
  });
});

describe('two configurations', () => {
  it('conflict if their scopes differ', async () => {
    @Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT }), BackgroundTasksModule.forRoot()] })
    class AppModule {}
    await expect(createApp('Express', AppModule)).rejects.toThrow(
      expect.objectContaining({
        code: 'BACKGROUND_TASK_CONFLICTING_OPTIONS',
        message: expect.stringContaining('with a different `scope`'),
      }),
    );
  });
});

describe.each(platforms)('a listener that outlives its request, under Scope.DEFAULT on %s', (platform) => {
  let work: Gate;
  let added: Gate;

  @Injectable()
  class Listener {
    constructor(private readonly tasks: BackgroundTasks) {}
    @OnEvent('placed')
    async placed() {
      await work.opened;
      this.tasks.addTask(function invoice() {});
      added.open();
    }
  }

  @Controller()
  class OrderController {
    constructor(private readonly events: EventEmitter2) {}
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(() => undefined);
      this.events.emit('placed');
    }
  }

  @Module({
    imports: [EventEmitterModule.forRoot(), BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
    controllers: [OrderController],
    providers: [Listener],
  })
  class OrderModule {}

  it('has its task start at once, which is worth no warning', async () => {
    [work, added] = [gate(), gate()];
    const { http, runner, logs } = await createApp(platform, OrderModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    work.open();
    await added.opened;
    expect(runner.pendingCount).toBe(1);
    await runner.onIdle();
    expect(logs.lines).toEqual([
      { level: 'debug', message: 'Background task "invoice" was added after its request was over, and starts at once' },
    ]);
  });
});
