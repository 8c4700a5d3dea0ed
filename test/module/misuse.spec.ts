// Public API: what types rule out throws an error that says what to write.
import 'reflect-metadata';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Inject, Injectable, Module, SetMetadata } from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

// SWC, tsx and JavaScript check no types.

/** An export as it looks to code without types. */
const untyped = (value: unknown) => value as (...args: unknown[]) => (...args: unknown[]) => void;

class Users {
  list(): void {}
}

describe('@BackgroundTasks', () => {
  it.each<[string, unknown[]]>([
    ['a parameter of a handler', [Users.prototype, 'list', 0]],
    ['a parameter of a constructor', [Users, undefined, 0]],
    ['a property', [Users.prototype, 'tasks', undefined]],
  ])('without parentheses, on %s, says what to write', (_, decorated) => {
    expect(() => untyped(BackgroundTasks)(...decorated)).toThrow(
      expect.objectContaining({
        code: 'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
        message: expect.stringMatching(/^@BackgroundTasks is missing its parentheses, on Users(\.\w+)?: write `@BackgroundTasks\(\) tasks/),
      }),
    );
  });

  it.each<[string, unknown[]]>([
    ['a property', [Users.prototype, 'tasks', undefined]],
    ['a method', [Users.prototype, 'list', Object.getOwnPropertyDescriptor(Users.prototype, 'list')]],
    ['a class', [Users]],
  ])('on %s says where it goes', (_, decorated) => {
    expect(() => untyped(BackgroundTasks)()(...decorated)).toThrow(
      expect.objectContaining({
        code: 'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
        message: expect.stringContaining('cannot be used here, on Users'),
      }),
    );
  });
});

describe('@BackgroundTask', () => {
  it('without parentheses says what to write', () => {
    const descriptor = Object.getOwnPropertyDescriptor(Users.prototype, 'list');
    expect(() => untyped(BackgroundTask)(Users.prototype, 'list', descriptor)).toThrow(
      expect.objectContaining({
        code: 'BACKGROUND_TASK_INVALID_TASK',
        message: '@BackgroundTask is missing its parentheses on the method list of Users: write @BackgroundTask()',
      }),
    );
  });

  it.each<[string, unknown[], string]>([
    ['a handler', [Users.prototype, 'list', 0], 'Users.list'],
    ['a constructor', [Users, undefined, 0], 'Users'],
  ])('on a parameter of %s says at once that the list of the request is in the plural', (_, where, owner) => {
    expect(() => untyped(BackgroundTask)()(...where)).toThrow(
      expect.objectContaining({
        code: 'BACKGROUND_TASK_INVALID_TASK',
        message:
          `@BackgroundTask() is for methods, but is used on a parameter of ${owner}: ` +
          'write `@BackgroundTasks() tasks: BackgroundTasks`, in the plural, for the list of the request',
      }),
    );
  });

  it('takes its options without a name', async () => {
    @Injectable()
    class MailTasks {
      @BackgroundTask({ timeout: 1_000 })
      mail(): void {}
    }
    const task = new BackgroundTask(MailTasks.prototype.mail);
    expect(task.name).toBe('MailTasks.mail');
    expect(task.options.timeout).toBe(1_000);
  });

  it.each<[string, unknown[], string]>([
    ['a misspelt option', [{ attemps: 3 }], 'Unknown option `attemps` of @BackgroundTask()'],
    ['options twice', [{ attempts: 3 }, {}], 'Expected the name of @BackgroundTask() to be a non-empty string, got an object'],
    ['null', [null], 'Expected the name of @BackgroundTask() to be a non-empty string, got `null`'],
  ])('refuses %s', (_, args, message) => {
    expect(() => untyped(BackgroundTask)(...args)).toThrow(
      expect.objectContaining({ code: 'BACKGROUND_TASK_INVALID_OPTION', message: expect.stringContaining(message) }),
    );
  });

  it('keeps the metadata, the name and the length of the method', () => {
    class Documented {
      @BackgroundTask()
      @SetMetadata('roles', ['admin'])
      mail(_to: string): void {}
    }
    const { mail } = Documented.prototype;
    expect(Reflect.getMetadata('roles', mail)).toEqual(['admin']);
    expect([mail.name, mail.length]).toEqual(['mail', 1]);
  });
});

describe('forRootAsync()', () => {
  const forRootAsync = untyped(BackgroundTasksModule.forRootAsync.bind(BackgroundTasksModule));

  it.each([
    ['scop', 'Unknown option `scop` of BackgroundTasksModule.forRootAsync(), expected one of `useFactory`, `useClass`'],
    ['useFactroy', 'Unknown option `useFactroy` of BackgroundTasksModule.forRootAsync()'],
    ['concurrency', '`isGlobal`, `scope`; return it from the factory'],
  ])('refuses `%s` beside the factory', (name, message) => {
    expect(() => forRootAsync({ useFactory: () => ({}), [name]: 1 })).toThrow(
      expect.objectContaining({ code: 'BACKGROUND_TASK_INVALID_OPTION', message: expect.stringContaining(message) }),
    );
  });
});

describe.each(platforms)('in an application on %s', (platform) => {
  let ran: string[];

  beforeEach(() => {
    ran = [];
  });

  let mailOfTheClass: unknown;
  const remember: MethodDecorator = (_prototype, _key, { value }) => void (mailOfTheClass = value);

  @Injectable()
  class MailTasks {
    @BackgroundTask('mail')
    @remember
    async mail(to: string): Promise<void> {
      ran.push(`${to} by ${currentTask()?.name}`);
    }
  }

  @Controller()
  class MailController {
    @Inject(MailTasks) private readonly mail!: MailTasks;

    @Get('method')
    method(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(this.mail.mail, 'right');
    }

    @Get('called')
    called(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask({ name: 'closure' }, async () => {
        await Promise.resolve();
        await this.mail.mail('called');
      });
      tasks.addTask(this.mail.mail.bind(this.mail), 'bound');
    }

    @Get('at-once')
    async atOnce() {
      await this.mail.mail('at once');
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [MailController], providers: [MailTasks] })
  class MailModule {}

  it('a @BackgroundTask() method is the method that was written, and a call of it is a plain call', async () => {
    const { http, runner, logs } = await createApp(platform, MailModule);
    for (const path of ['/method', '/at-once', '/called']) await http.get(path).expect(200);
    await runner.onIdle();
    expect(logs.of('warn')).toEqual([]);
    expect(MailTasks.prototype.mail).toBe(mailOfTheClass);
    expect([...ran].sort()).toEqual(['at once by undefined', 'bound by bound mail', 'called by closure', 'right by mail']);
  });
});
