// Guarantee 10: a @BackgroundTask() method takes the same addTask() call with and without an engine.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Inject, Injectable, Module, type OnModuleInit, Post, Scope, type Type } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

let sent: string[] = [];
/** Holds mail back until a test has its answer. */
let over: Gate;

beforeEach(() => {
  sent = [];
  over = gate();
});

/** Boots an application of these providers. */
async function boot(providers: Type[], configure: () => object = () => BackgroundTasksModule.forRoot()): Promise<void> {
  @Module({ imports: [configure() as Type], providers })
  class AppModule {}

  const app = (await Test.createTestingModule({ imports: [AppModule] }).compile()).createNestApplication({ logger: false });
  try {
    await app.init();
  } finally {
    await app.close();
  }
}

it('a @BackgroundTask() method can be added in onModuleInit()', async () => {
  @Injectable()
  class CacheTasks implements OnModuleInit {
    constructor(@Inject(BackgroundTasks) private readonly tasks: BackgroundTasks) {}

    @BackgroundTask('warm-cache')
    warm(what: string): void {
      sent.push(`warmed ${what}`);
    }

    onModuleInit(): void {
      this.tasks.addTask(this.warm, 'prices');
    }
  }

  @Module({ providers: [CacheTasks] })
  class CacheModule {}

  @Module({ imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT }), CacheModule] })
  class AppModule {}

  const { runner } = await createApp('Express', AppModule);
  await runner.onIdle();
  expect(sent).toEqual(['warmed prices']);
});

describe.each(platforms)('@BackgroundTask() methods without an engine on %s', (platform) => {
  @Injectable()
  class Smtp {
    readonly host = 'smtp.example.com';
  }

  @Injectable()
  class MailTasks {
    constructor(@Inject(Smtp) private readonly smtp: Smtp) {}

    @BackgroundTask('send-email')
    async sendEmail(to: string, copies = 1): Promise<void> {
      const { name, attempt } = currentTask()!;
      await over.opened;
      sent.push(`${name} to ${to} × ${copies}, attempt ${attempt}, by ${this.smtp.host}`);
    }

    @BackgroundTask()
    fail(): void {
      throw new Error(`${this.smtp.host} is away`);
    }

    @BackgroundTask(undefined, { runOn: 'failure' })
    apologize(to: string): void {
      sent.push(`apology to ${to}`);
    }
  }

  @Controller()
  class UserController {
    constructor(@Inject(MailTasks) private readonly mail: MailTasks) {}

    @Post('injected')
    injected(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(this.mail.sendEmail, 'a@example.com', 2);
      return 'answer';
    }

    @Post('prototype')
    prototype(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(MailTasks.prototype.sendEmail, 'a@example.com');
      return 'answer';
    }

    @Post('options')
    options(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(this.mail.apologize, 'a@example.com');
      tasks.addTask({ runOn: 'success' }, this.mail.apologize, 'b@example.com');
      tasks.addTask(this.mail.fail);
    }

    @Get('names')
    names(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ runOn: 'failure' }, this.mail.sendEmail, 'a@example.com');
      tasks.addTask({ runOn: 'failure' }, this.mail.fail);
      return tasks.tasks.map(({ name }) => name);
    }

    @Get('named')
    named(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'another' }, this.mail.sendEmail, 'a@example.com');
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [UserController], providers: [MailTasks, Smtp] })
  class AppModule {}

  it.each([
    ['injected', 'send-email to a@example.com × 2, attempt 1, by smtp.example.com'],
    ['prototype', 'send-email to a@example.com × 1, attempt 1, by smtp.example.com'],
  ])('run on their own provider, after the response: %s', async (path, expected) => {
    const { http, runner } = await createApp(platform, AppModule);
    await http.post(`/${path}`).expect(201, 'answer');
    expect(sent).toEqual([]);
    over.open();
    await runner.onIdle();
    expect(sent).toEqual([expected]);
  });

  it('take the options of their decorator unless addTask() overrides them, and fail like any task', async () => {
    const { http, runner, logs } = await createApp(platform, AppModule);
    await http.post('/options').expect(201);
    await runner.onIdle();
    expect(sent).toEqual(['apology to b@example.com']);
    expect(logs.of('debug')).toEqual([
      'Background task "MailTasks.apologize" was discarded: it runs on failure, and the outcome of its request was success',
    ]);
    expect(logs.of('error')).toEqual(['Background task "MailTasks.fail" failed: smtp.example.com is away']);
  });

  it('are named by their decorator, or after their class and method', async () => {
    const { http } = await createApp(platform, AppModule);
    await http.get('/names').expect(200, ['send-email', 'MailTasks.fail']);
  });

  it('refuse another name in addTask()', async () => {
    const { http, logs } = await createApp(platform, AppModule);
    await http.get('/named').expect(500);
    expect(logs.lines).toEqual([]);
  });

  it('run on the fake that a test puts in the place of their provider', async () => {
    const fake = { sendEmail: (to: string) => void sent.push(`fake to ${to}`) };
    const { http, runner } = await createApp(platform, AppModule, {
      build: (builder) => builder.overrideProvider(MailTasks).useValue(fake),
    });
    await http.post('/injected').expect(201);
    await http.post('/prototype').expect(201);
    await runner.onIdle();
    expect(sent).toEqual(['fake to a@example.com', 'fake to a@example.com']);
  });
});

describe('a decorator that wraps the method', () => {
  /** Tracing and caching libraries replace the method with their own function. */
  const Traced: MethodDecorator = (_prototype, _key, descriptor) => {
    const method = descriptor.value as (...args: unknown[]) => unknown;
    const traced = function (this: unknown, ...args: unknown[]): unknown {
      sent.push('traced');
      return method.apply(this, args);
    };
    return Object.assign(descriptor, { value: traced });
  };

  @Injectable()
  class TracedTasks {
    readonly from = 'me';

    @Traced
    @BackgroundTask('above')
    above(): void {
      sent.push(`above by ${this.from}`);
    }

    @BackgroundTask('below')
    @Traced
    below(): void {
      sent.push(`below by ${this.from}`);
    }
  }

  @Controller()
  class TracedController {
    constructor(@Inject(TracedTasks) private readonly traced: TracedTasks) {}

    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(this.traced.above);
      tasks.addTask(TracedTasks.prototype.below);
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [TracedController], providers: [TracedTasks] })
  class TracedModule {}

  it('may stand above and below @BackgroundTask()', async () => {
    const { http, runner } = await createApp('Express', TracedModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(sent).toEqual(['traced', 'above by me', 'traced', 'below by me']);
  });
});

describe('inheritance', () => {
  abstract class Report {
    abstract readonly title: string;

    @BackgroundTask('report')
    run(): void {
      sent.push(`report ${this.title}`);
    }
  }

  @Injectable()
  class Sales extends Report {
    readonly title = 'sales';
  }

  @Injectable()
  class Loud extends Report {
    readonly title = 'loud';
    override run(): void {
      sent.push(`REPORT ${this.title}`);
    }
  }

  it.each([
    [Sales, 'report sales'],
    [Loud, 'REPORT loud'],
  ])('an inherited method, overridden or not, runs on the subclass: %p', async (provider, expected) => {
    @Controller()
    class ReportController {
      constructor(@Inject(provider) private readonly report: Report) {}

      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(this.report.run);
        tasks.addTask(Report.prototype.run);
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [ReportController], providers: [provider] })
    class ReportModule {}

    const { http, runner } = await createApp('Express', ReportModule);
    await http.get('/').expect(200);
    await runner.onIdle();
    expect(sent).toEqual([expected, expected]);
  });
});

describe('@BackgroundTask() refuses at boot', () => {
  @Injectable()
  class First {
    @BackgroundTask('same')
    run(): void {}
  }

  @Injectable()
  class Second {
    @BackgroundTask('same')
    run(): void {}
  }

  @Injectable({ scope: Scope.REQUEST })
  class PerRequest {
    @BackgroundTask()
    run(): void {}
  }

  @Injectable({ scope: Scope.TRANSIENT })
  class Transient {
    @BackgroundTask()
    run(): void {}
  }

  @Injectable()
  class MadePerRequest {
    constructor(readonly tasks: BackgroundTasks) {}

    @BackgroundTask()
    run(): void {}
  }

  @Injectable()
  class Flushed {
    @BackgroundTask('flushed', { flush: 'before-response' })
    run(): void {}
  }

  class Retried {
    @BackgroundTask('retried', { attempts: 5, backoff: { type: 'exponential', delay: 1_000 } })
    run(): void {}
  }

  it.each<[string, Type[], RegExp]>([
    [
      'a name that is taken twice',
      [First, Second],
      /^@BackgroundTask\("same"\) is registered twice: First\.run and Second\.run have this name/,
    ],
    [
      'a request-scoped provider',
      [PerRequest],
      /^@BackgroundTask\("PerRequest\.run"\) is a method of PerRequest, which is not a singleton/,
    ],
    ['a transient provider', [Transient], /^@BackgroundTask\("Transient\.run"\) is a method of Transient, which is not a singleton/],
    ['a provider that injects something request-scoped', [MadePerRequest], /MadePerRequest, which is not a singleton/],
    ['what only an engine can keep, without one', [Retried], /^The option `attempts` of @BackgroundTask\("retried"\) needs an engine/],
    ['when an engine gets it, without one', [Flushed], /^The option `flush` of @BackgroundTask\("flushed"\) needs an engine/],
  ])('%s', async (_what, providers, message) => {
    await expect(boot(providers)).rejects.toThrow(message);
  });

  it('a class that two modules provide: it would have two instances', async () => {
    @Module({ providers: [First] })
    class OtherModule {}

    await expect(boot([First], () => ({ module: OtherModule, imports: [BackgroundTasksModule] }))).rejects.toThrow(
      '@BackgroundTask("same") is registered twice: it is a method of two providers, in AppModule and in OtherModule; provide the class in one module, and export it',
    );
  });

  it('nothing if one instance has two tokens', async () => {
    await boot([First, { provide: 'alias', useExisting: First } as unknown as Type]);
  });
});

describe('@BackgroundTask() refuses at the declaration of the class', () => {
  it.each<[string, () => unknown, string]>([
    [
      'an unknown option',
      () => BackgroundTask('a', { retries: 3 } as object),
      'Unknown option `retries` of @BackgroundTask(), expected one of',
    ],
    [
      'no attempts',
      () => BackgroundTask('a', { attempts: 0 }),
      'Expected the option `attempts` of @BackgroundTask() to be a positive integer, got `0` (number)',
    ],
    [
      'a backoff of an unknown kind',
      () => BackgroundTask('a', { backoff: { type: 'linear', delay: 1 } as never }),
      'Expected the option `backoff` of @BackgroundTask() to be milliseconds or',
    ],
    [
      'a deduplication without a key',
      () => BackgroundTask('a', { deduplication: { id: '', ttl: 1 } }),
      'Expected the option `deduplication` of @BackgroundTask() to be { id: a key or a function that returns one, ttl?: milliseconds,',
    ],
    ['an empty name', () => BackgroundTask(''), 'Expected the name of @BackgroundTask() to be a non-empty string, got `` (string)'],
    [
      'a static method',
      () => BackgroundTask()(class {} as unknown as object, 'run', {}),
      'Expected @BackgroundTask() run to be a method of an instance, got a function',
    ],
    [
      'a getter',
      () => BackgroundTask()({}, 'run', { get: () => () => undefined }),
      'Expected @BackgroundTask() run to be a method of an instance, got an accessor',
    ],
  ])('%s', (_what, decorate, message) => {
    expect(decorate).toThrow(message);
  });
});

describe('addTask() with a @BackgroundTask() method', () => {
  class NoProvider {
    @BackgroundTask()
    run(): void {}
  }

  @Controller()
  class RefusedController {
    @Get('no-provider')
    noProvider(@BackgroundTasks() tasks: BackgroundTasks) {
      return messageOf(() => tasks.addTask(NoProvider.prototype.run));
    }

    @BackgroundTask()
    @Get('controller')
    controller(@BackgroundTasks() tasks: BackgroundTasks) {
      return messageOf(() => tasks.addTask(this.controller, tasks));
    }

    @Get('flush')
    flush(@BackgroundTasks() tasks: BackgroundTasks) {
      return messageOf(() => tasks.addTask({ flush: 'after-response' }, () => undefined));
    }

    @Get('flush-without-engine')
    flushWithoutEngine(@BackgroundTasks() tasks: BackgroundTasks) {
      return messageOf(() => tasks.addTask({ flush: 'after-response' }, Provided.prototype.run));
    }
  }

  class Provided {
    @BackgroundTask('provided')
    run(): void {}
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [RefusedController], providers: [Provided] })
  class RefusedModule {}

  function messageOf(add: () => void): string {
    try {
      add();
      return 'taken';
    } catch (error) {
      return (error as Error).message;
    }
  }

  it.each([
    [
      'no-provider',
      '@BackgroundTask("NoProvider.run") is a method of NoProvider, which is not a provider of this application: add it to the `providers` of a module',
    ],
    [
      'controller',
      '@BackgroundTask("RefusedController.controller") is a method of RefusedController, which is not a provider of this application: add it to the `providers` of a module',
    ],
    ['flush', 'Expected a task with the option `flush` to be a @BackgroundTask() method, got a function'],
    [
      'flush-without-engine',
      'The option `flush` of addTask() for the task "provided" needs an engine, as a crash of this process would lose it: ' +
        'configure `engine` in BackgroundTasksModule.forRoot(), or leave the option out',
    ],
  ])('is refused: %s', async (path, message) => {
    const { http } = await createApp('Express', RefusedModule);
    await http.get(`/${path}`).expect(200, message);
  });

  it('does not run in a list made by hand, which knows no provider', async () => {
    const tasks = new BackgroundTasks();
    tasks.addTask(NoProvider.prototype.run);
    expect(tasks.tasks.map(({ name }) => name)).toEqual(['NoProvider.run']);
    await expect(tasks.run()).rejects.toThrow(/a list made by hand does not know its provider/);
  });
});
