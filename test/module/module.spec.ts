// Public API: how the module is imported and configured; its options are validated at boot.
import { describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, type Type } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import {
  BackgroundTasks,
  BackgroundTasksError,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  BackgroundTasksRunner,
} from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

const ran: string[] = [];

@Injectable()
class Mailer {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Controller()
class AppController {
  constructor(private readonly mailer: Mailer) {}

  @Get()
  get(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(() => {
      ran.push('first');
      throw new Error('the first task fails');
    });
    this.mailer.tasks.addTask(() => ran.push('second'));
    return 'answered';
  }
}

@Injectable()
class OptionsFactory {
  createBackgroundTasksOptions(): BackgroundTasksModuleOptions {
    return { onTaskFailure: 'stop' };
  }
}

@Module({ providers: [OptionsFactory], exports: [OptionsFactory] })
class ConfigModule {}

function moduleWith(...imports: NonNullable<Parameters<typeof Module>[0]['imports']>): Type {
  @Module({ imports, controllers: [AppController], providers: [Mailer] })
  class AppModule {}
  return AppModule;
}

async function tasksThatRun(platform: (typeof platforms)[number], module: Type): Promise<string[]> {
  ran.length = 0;
  const { http, runner } = await createApp(platform, module);
  await http.get('/').expect(200, 'answered');
  await runner.onIdle();
  return ran;
}

describe.each(platforms)('BackgroundTasksModule on %s', (platform) => {
  it('works by plain import', async () => {
    expect(await tasksThatRun(platform, moduleWith(BackgroundTasksModule))).toEqual(['first', 'second']);
  });

  it('takes options with forRoot', async () => {
    expect(await tasksThatRun(platform, moduleWith(BackgroundTasksModule.forRoot({ onTaskFailure: 'stop' })))).toEqual(['first']);
  });

  it.each([
    ['useFactory', { useFactory: () => Promise.resolve({ onTaskFailure: 'stop' as const }) }],
    [
      'useFactory with imports and inject',
      {
        imports: [ConfigModule],
        inject: [OptionsFactory],
        useFactory: (factory: OptionsFactory) => factory.createBackgroundTasksOptions(),
      },
    ],
    ['useClass', { useClass: OptionsFactory }],
    ['useExisting', { imports: [ConfigModule], useExisting: OptionsFactory }],
  ])('takes options with forRootAsync: %s', async (_, options) => {
    expect(await tasksThatRun(platform, moduleWith(BackgroundTasksModule.forRootAsync(options)))).toEqual(['first']);
  });
});

describe('there is one runner for the application', () => {
  @Module({ imports: [BackgroundTasksModule], controllers: [AppController], providers: [Mailer] })
  class FeatureModule {}

  it('when only a feature module imports it', async () => {
    expect(await tasksThatRun('Express', rootOf(FeatureModule))).toEqual(['first', 'second']);
  });

  it('when it is imported twice, plain', async () => {
    const app = await createApp('Express', rootOf(FeatureModule, BackgroundTasksModule));
    expect(countProviders(app.app.get(ModulesContainer))).toBe(1);
  });

  it('when a feature module imports it plain and the root module configures it: the options hold for both', async () => {
    const configured = BackgroundTasksModule.forRoot({ onTaskFailure: 'stop' });
    expect(await tasksThatRun('Express', rootOf(FeatureModule, configured))).toEqual(['first']);
    const app = await createApp('Express', rootOf(configured, FeatureModule));
    expect(countProviders(app.app.get(ModulesContainer))).toBe(1);
  });

  it('when it is configured twice, with the same options', async () => {
    const twice = rootOf(
      FeatureModule,
      BackgroundTasksModule.forRoot({ onTaskFailure: 'stop' }),
      BackgroundTasksModule.forRoot({ onTaskFailure: 'stop' }),
    );
    expect(await tasksThatRun('Express', twice)).toEqual(['first']);
  });

  it('when it is configured twice, with different options: boot fails and says which', async () => {
    const twice = rootOf(BackgroundTasksModule.forRoot({ runOn: 'always' }), BackgroundTasksModule.forRoot({ concurrency: 2 }));
    await expect(createApp('Express', twice)).rejects.toThrow(
      expect.objectContaining({ code: 'BACKGROUND_TASK_CONFLICTING_OPTIONS', message: expect.stringContaining('`runOn`') }),
    );
  });

  function rootOf(...imports: NonNullable<Parameters<typeof Module>[0]['imports']>): Type {
    @Module({ imports })
    class AppModule {}
    return AppModule;
  }

  function countProviders(modules: ModulesContainer): number {
    return [...modules.values()].filter((module) => module.hasProvider(BackgroundTasksRunner)).length;
  }
});

describe('isGlobal', () => {
  @Injectable()
  class Elsewhere {
    constructor(readonly tasks: BackgroundTasks) {}
  }

  @Module({ providers: [Elsewhere], exports: [Elsewhere] })
  class ModuleWithoutImport {}

  it.each([
    ['plain import', BackgroundTasksModule],
    ['forRoot', BackgroundTasksModule.forRoot()],
    ['forRootAsync', BackgroundTasksModule.forRootAsync({ useFactory: () => ({}) })],
  ])('is true by default: %s', async (_, module) => {
    const app = await Test.createTestingModule({ imports: [module, ModuleWithoutImport] }).compile();
    await expect(app.resolve(Elsewhere)).resolves.toBeInstanceOf(Elsewhere);
  });

  it.each([
    ['forRoot', BackgroundTasksModule.forRoot({ isGlobal: false })],
    ['forRootAsync', BackgroundTasksModule.forRootAsync({ isGlobal: false, useFactory: () => ({}) })],
  ])('false keeps the providers to the importing module: %s', async (_, module) => {
    await expect(Test.createTestingModule({ imports: [module, ModuleWithoutImport] }).compile()).rejects.toThrow(/BackgroundTasks/);
    expect(await tasksThatRun('Express', moduleWith(module))).toEqual(['first', 'second']);
  });
});

describe('options are validated at boot', () => {
  it.each<[string, object, string]>([
    [
      'runOn',
      { runOn: 'sometimes' },
      "the option `runOn` of BackgroundTasksModule to be 'success' or 'failure' or 'always', got `sometimes` (string)",
    ],
    [
      'onTaskFailure',
      { onTaskFailure: true },
      "the option `onTaskFailure` of BackgroundTasksModule to be 'continue' or 'stop', got `true` (boolean)",
    ],
    [
      'concurrency',
      { concurrency: 0 },
      'the option `concurrency` of BackgroundTasksModule to be a positive integer or Infinity, got `0` (number)',
    ],
    ['concurrency, not a number', { concurrency: '4' }, 'a positive integer or Infinity, got `4` (string)'],
    [
      'maxPending',
      { maxPending: 1.5 },
      'the option `maxPending` of BackgroundTasksModule to be a positive integer or Infinity, got `1.5` (number)',
    ],
    [
      'timeout',
      { timeout: -1 },
      'the option `timeout` of BackgroundTasksModule to be milliseconds, an integer from 1 to 2147483647, got `-1` (number)',
    ],
    ['timeout, too long for a timer', { timeout: 2 ** 31 }, 'got `2147483648` (number)'],
    [
      'shutdownTimeout',
      { shutdownTimeout: null },
      'the option `shutdownTimeout` of BackgroundTasksModule to be milliseconds, an integer from 0 to 2147483647, got `null`',
    ],
    ['flush without an engine', { flush: 'after-response' }, 'The option `flush` of BackgroundTasksModule needs an engine'],
    ['flushTimeout, longer than an engine remembers', { flushTimeout: 300_001 }, 'milliseconds, an integer from 1 to 300000, got `300001`'],
    ['onError', { onError: {} }, 'the option `onError` of BackgroundTasksModule to be a function, got an object'],
  ])('%s', async (_, options, message) => {
    const failure = (error: unknown) => {
      expect(error).toBeInstanceOf(BackgroundTasksError);
      expect(error).toMatchObject({ code: 'BACKGROUND_TASK_INVALID_OPTION', message: expect.stringContaining(message) });
    };
    expect.assertions(4);
    await Test.createTestingModule({ imports: [BackgroundTasksModule.forRoot(options)] })
      .compile()
      .catch(failure);
    await Test.createTestingModule({ imports: [BackgroundTasksModule.forRootAsync({ useFactory: () => options })] })
      .compile()
      .catch(failure);
  });

  it('an unknown option, with the known ones', async () => {
    const options: object = { concurency: 4 };
    await expect(Test.createTestingModule({ imports: [BackgroundTasksModule.forRoot(options)] }).compile()).rejects.toThrow(
      'Unknown option `concurency` of BackgroundTasksModule, expected one of `runOn`, `onTaskFailure`, `concurrency`',
    );
  });

  it('an option that is undefined counts as absent', async () => {
    const app = await Test.createTestingModule({ imports: [BackgroundTasksModule.forRoot({ timeout: undefined })] }).compile();
    expect(app.get(BackgroundTasksRunner).pendingCount).toBe(0);
  });
});

describe('without the module', () => {
  @Controller()
  class Forgetful {
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      return tasks.tasks.length;
    }
  }

  it.each(platforms)('the parameter decorator says what to import, on %s', async (platform) => {
    @Module({ controllers: [Forgetful] })
    class WithoutModule {}
    let caught: unknown;
    const { http } = await createApp(platform, WithoutModule, {
      configure: (app) =>
        app.useGlobalFilters({
          catch: (error: unknown, host: { switchToHttp(): { getResponse(): { status(code: number): { send(): void } } } }) => {
            caught = error;
            host.switchToHttp().getResponse().status(500).send();
          },
        }),
    });
    await http.get('/').expect(500);
    expect(caught).toMatchObject({
      code: 'BACKGROUND_TASK_MODULE_NOT_IMPORTED',
      message: expect.stringContaining('add BackgroundTasksModule to the imports'),
    });
  });
});
