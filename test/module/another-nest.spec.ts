// Guarantee 11: undocumented parts of Nest are checked at boot; where Nest has them otherwise, one warning says so, and no route fails and
// no task is lost.
import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Module, type OnModuleDestroy, Post } from '@nestjs/common';
import { ApplicationConfig, ExternalContextCreator, NestApplicationContext, NestFactory } from '@nestjs/core';
import { Module as NestModule } from '@nestjs/core/injector/module.js';
import { InstanceWrapper } from '@nestjs/core/injector/instance-wrapper.js';
import { RouterExecutionContext } from '@nestjs/core/router/router-execution-context.js';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { adapterOf, createApp, platforms } from '../support/app.js';
import { gate } from '../support/gate.js';

// Each test changes Nest as a later version might, and lets it go afterwards. The consumer of interceptors comes first: this package
// replaces its method once in a process.

type Method = (...args: never[]) => unknown;

const restore: (() => void)[] = [];

afterEach(() => {
  for (const undo of restore.splice(0)) undo();
});

/** Replaces a property of a part of Nest until the end of the test. */
function change(owner: object, key: string, descriptor: PropertyDescriptor): void {
  const original = Object.getOwnPropertyDescriptor(owner, key);
  Object.defineProperty(owner, key, { configurable: true, ...descriptor });
  restore.push(() => {
    if (original) Object.defineProperty(owner, key, original);
    else Reflect.deleteProperty(owner, key);
  });
}

const methodOf = (owner: object, key: string): Method => Reflect.get(owner, key) as Method;

const ran: string[] = [];

afterEach(() => void ran.splice(0));

@Injectable()
class MailTasks {
  @BackgroundTask('mail')
  mail(to: string): void {
    ran.push(`mail to ${to}`);
  }
}

@Controller()
class SignUpController {
  constructor(private readonly mail: MailTasks) {}

  @Post()
  signUp(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.mail.mail, 'ada');
    tasks.addTask({ runOn: 'failure' }, () => ran.push('failure'));
    return 'answer';
  }

  @Get('not-json')
  notJson(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ runOn: 'failure' }, () => ran.push('failure'));
    return { value: 1n };
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [SignUpController], providers: [MailTasks] })
class SignUpModule {}

describe.each(platforms)('on %s, with a Nest', (platform) => {
  async function signUp(): Promise<string[]> {
    const { http, runner, logs } = await createApp(platform, SignUpModule);
    await http.post('/').expect(201, 'answer');
    await runner.onIdle();
    expect(ran).toEqual(['mail to ada']);
    expect(logs.of('error')).toEqual([]);
    return logs.of('warn');
  }

  it('whose InterceptorsConsumer#intercept takes its parameters in another order, routes answer and their tasks run', async () => {
    @Module({})
    class EmptyModule {}
    const context = await NestFactory.createApplicationContext(EmptyModule, { logger: false });
    const { interceptorsConsumer } = context.get(ExternalContextCreator) as unknown as { interceptorsConsumer: object };
    await context.close();
    const consumer: object = Object.getPrototypeOf(interceptorsConsumer);
    const intercept = methodOf(consumer, 'intercept');
    const swapped = function (this: unknown, args: never, interceptors: never, ...rest: never[]): unknown {
      return intercept.call(this, interceptors, args, ...rest);
    };
    change(consumer, 'intercept', { value: swapped, writable: true });
    const create = methodOf(RouterExecutionContext.prototype, 'create');
    change(RouterExecutionContext.prototype, 'create', {
      value(this: object, ...args: never[]) {
        // The router of that Nest passes them in that order.
        const moved = {
          intercept: (interceptors: never, handlerArgs: never, ...rest: never[]) =>
            methodOf(consumer, 'intercept').call({ __proto__: consumer }, handlerArgs, interceptors, ...rest),
        };
        return create.call(Object.create(this, { interceptorsConsumer: { value: moved } }), ...args);
      },
      writable: true,
    });
    const warnings = await signUp();
    // One warning for all applications of a process.
    if (platform === 'Express') expect(warnings).toEqual([expect.stringMatching(/^This version of Nest .*routes cost more/s)]);
  });

  it('that does not keep the distance of a module, tasks run, and a warning says that databases may close first', async () => {
    change(NestModule.prototype, 'distance', {
      get: () => 1,
      set: () => undefined,
    });
    const warnings = await signUp();
    if (platform === 'Express') expect(warnings).toEqual([expect.stringContaining('a shutdown may close databases before the tasks')]);
  });

  it('whose getGlobalInterceptors() returns a copy, the parameter is the list of the request', async () => {
    const get = methodOf(ApplicationConfig.prototype, 'getGlobalInterceptors');
    change(ApplicationConfig.prototype, 'getGlobalInterceptors', {
      value(this: ApplicationConfig) {
        return [...(get.call(this) as unknown[])];
      },
    });
    const warnings = await signUp();
    if (platform === 'Express') expect(warnings).toEqual([expect.stringContaining('one of your global interceptors fails')]);
  });

  it('without ExternalContextCreator#create, routes answer and their tasks run', async () => {
    change(ExternalContextCreator.prototype, 'create', { value: undefined, writable: true });
    const warnings = await signUp();
    if (platform === 'Express') expect(warnings).toEqual([expect.stringContaining('resolvers of GraphQL fields')]);
  });

  it('whose close() cannot be replaced, routes answer and their tasks run', async () => {
    const close = methodOf(NestApplicationContext.prototype, 'close');
    change(NestApplicationContext.prototype, 'close', { value: close, writable: false });
    await signUp();
  });

  it.each(['isDependencyTreeStatic', 'getCtorMetadata', 'getPropertiesMetadata', 'getEnhancersMetadata'])(
    'whose InstanceWrapper has no %s for this package, the application starts and tasks run',
    async (method) => {
      const original = methodOf(InstanceWrapper.prototype, method);
      // Nest itself goes on: only code of this package sees that the method has gone.
      change(InstanceWrapper.prototype, method, {
        get() {
          return new Error().stack?.includes('/nest-internals/') || new Error().stack?.includes('/lib/module/') ? undefined : original;
        },
      });
      await signUp();
    },
  );

  it('whose adapter sends asynchronously, a rejection is a failure to send', async () => {
    const adapter = adapterOf(platform);
    const reply = methodOf(adapter, 'reply');
    adapter.reply = async (...args: unknown[]) => reply.call(adapter, ...(args as never[]));
    const { http, runner } = await createApp(platform, SignUpModule, { adapter });
    await http.post('/').expect(201, 'answer');
    await runner.onIdle();
    expect(ran).toEqual(['mail to ada']);
  });

  it('whose adapter rejects as it sends, the outcome is a failure', async () => {
    const adapter = adapterOf(platform);
    const reply = methodOf(adapter, 'reply');
    adapter.reply = async (response: unknown, body: unknown, ...rest: unknown[]) => {
      if (body === 'answer') throw new Error('cannot be sent');
      return reply.call(adapter, ...([response, body, ...rest] as never[]));
    };
    const { http, runner } = await createApp(platform, SignUpModule, { adapter });
    await http.post('/').expect(500);
    await runner.onIdle();
    expect(ran).toEqual(['failure']);
  });

  it('whose adapter has no error handler, routes answer and their tasks run', async () => {
    const adapter = adapterOf(platform);
    Reflect.set(adapter, 'setErrorHandler', undefined);
    const { http, runner } = await createApp(platform, SignUpModule, { adapter });
    await http.post('/').expect(201, 'answer');
    await runner.onIdle();
    expect(ran).toEqual(['mail to ada']);
  });
});

describe.each(platforms)('on %s, as Nest is', (platform) => {
  it('there is no warning, and a shutdown waits for a task before it destroys modules', async () => {
    const slow = gate();

    @Controller()
    class SlowController {
      @Post()
      post(@BackgroundTasks() tasks: BackgroundTasks) {
        tasks.addTask(async () => {
          await slow.opened;
          ran.push('task');
        });
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [SlowController] })
    class SlowModule implements OnModuleDestroy {
      onModuleDestroy() {
        ran.push('destroyed');
      }
    }

    const { app, http, logs } = await createApp(platform, SlowModule);
    await http.post('/').expect(201);
    const closed = app.close();
    slow.open();
    await closed;
    expect(ran).toEqual(['task', 'destroyed']);
    expect(logs.of('warn')).toEqual([]);
  });
});
