// Public API: at boot, warnings and errors name enhancers, factories and handlers that the injection of the list breaks.
import { readFileSync } from 'node:fs';
import { Strategy } from 'passport';
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import {
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  Controller,
  type ExceptionFilter,
  type ExecutionContext,
  Get,
  Injectable,
  Module,
  type NestInterceptor,
  type OnModuleInit,
  type PipeTransform,
  type Provider,
  Scope,
  SetMetadata,
  type Type,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE, ModulesContainer } from '@nestjs/core';
import { DependenciesScanner } from '@nestjs/core/scanner.js';
import { Resolver } from '@nestjs/graphql';
import { PassportStrategy } from '@nestjs/passport';
import { Interval, ScheduleModule } from '@nestjs/schedule';
import { BackgroundTasks, BackgroundTasksError, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, isNest12 } from '../support/app.js';

// This check reads parts of Nest that a version may lack.

afterEach(() => void jest.restoreAllMocks());

@Injectable()
class Users {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Injectable()
class LastSeen implements NestInterceptor {
  constructor(private readonly tasks: BackgroundTasks) {}
  intercept(_: ExecutionContext, next: CallHandler) {
    this.tasks.addTask({ name: 'last seen' }, () => undefined);
    return next.handle();
  }
}

@Injectable()
class RolesGuard implements CanActivate {
  constructor(readonly users: Users) {}
  canActivate(): boolean {
    return true;
  }
}

@Injectable()
class TrimPipe implements PipeTransform {
  constructor(readonly users: Users) {}
  transform(value: unknown): unknown {
    return value;
  }
}

@Injectable()
class AuditFilter implements ExceptionFilter {
  constructor(readonly tasks: BackgroundTasks) {}
  catch(_: unknown, host: ArgumentsHost): void {
    void host;
  }
}

@Controller()
class PlainController {
  @Get()
  get(): string {
    return 'ok';
  }
}

@Controller('api')
class Api implements OnModuleInit {
  onModuleInit(): void {}
  @Get()
  get(): string {
    return 'ok';
  }
}

@Resolver()
class CountResolver {
  @SetMetadata('graphql:resolver_type', 'Subscription')
  counts(): void {}
}

const HEAD = 'Injecting BackgroundTasks makes a class, and every class that injects it, request-scoped. This affects:';
const ADVICE =
  'Configure `BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })`: you then inject a singleton that follows the request, and nothing ' +
  'becomes request-scoped. Or do not inject the list there: take the list as a parameter of the handler, ' +
  '`@BackgroundTasks() tasks: BackgroundTasks`, and pass it on, or get it with `BackgroundTasks.of(context)`';

interface Parts {
  scope?: Scope.REQUEST | Scope.DEFAULT;
  controllers?: Type[];
}

function moduleOf(providers: Provider[], { scope = Scope.REQUEST, controllers = [PlainController] }: Parts = {}): Type {
  @Module({ imports: [BackgroundTasksModule.forRoot({ scope }), ScheduleModule.forRoot()], controllers, providers: [Users, ...providers] })
  class AppModule {}
  return AppModule;
}

/** The lines of the one warning, or none. */
async function warnedOf(providers: Provider[], parts?: Parts): Promise<string[]> {
  const { logs } = await createApp('Express', moduleOf(providers, parts));
  const warnings = logs.of('warn');
  if (warnings.length === 0) return [];
  const [head, ...lines] = warnings.join('\n').split('\n');
  expect(head).toBe(HEAD);
  expect(lines.pop()).toBe(ADVICE);
  return lines.map((line) => line.trim());
}

describe('a global enhancer that injects the list', () => {
  const unscoped: Provider[] = [
    RolesGuard,
    { provide: APP_INTERCEPTOR, useClass: LastSeen },
    { provide: APP_GUARD, useExisting: RolesGuard },
    { provide: APP_PIPE, useClass: TrimPipe },
    { provide: APP_PIPE, inject: [Users], useFactory: (users: Users) => new TrimPipe(users) },
    { provide: APP_FILTER, useClass: AuditFilter },
  ];

  it('without a scope is named with what to do, in versions of Nest that start with it', async () => {
    // Later ones refuse it here, and advise `scope: Scope.REQUEST`.
    jest.spyOn(DependenciesScanner.prototype, 'applyApplicationProviders').mockReturnValue(undefined);
    const problem = 'Nest never creates it, so requests fail; with `scope: Scope.REQUEST`, all controllers become request-scoped';
    expect(await warnedOf(unscoped)).toEqual([
      `APP_INTERCEPTOR LastSeen → BackgroundTasks: ${problem}`,
      `APP_GUARD (useExisting) → RolesGuard → Users → BackgroundTasks: ${problem}`,
      `APP_PIPE TrimPipe → Users → BackgroundTasks: ${problem}`,
      `APP_PIPE (useFactory) → Users → BackgroundTasks: ${problem}`,
      `APP_FILTER AuditFilter → BackgroundTasks: ${problem}`,
    ]);
  });

  it('without a scope is fine under Scope.DEFAULT', async () => {
    expect(await warnedOf(unscoped, { scope: Scope.DEFAULT })).toEqual([]);
  });

  it('with one is named with how many classes it takes along, and which of them should be singletons', async () => {
    const providers: Provider[] = [
      CountResolver,
      { provide: APP_INTERCEPTOR, scope: Scope.REQUEST, useClass: LastSeen },
      { provide: APP_GUARD, scope: Scope.REQUEST, inject: [Users], useFactory: (users: Users) => new RolesGuard(users) },
    ];
    const problem = 'it makes every controller and resolver request-scoped (3 classes); CountResolver, Api need to be singletons';
    expect(await warnedOf(providers, { controllers: [PlainController, Api] })).toEqual([
      `APP_INTERCEPTOR LastSeen → BackgroundTasks: ${problem}`,
      `APP_GUARD (useFactory) → Users → BackgroundTasks: ${problem}`,
    ]);
  });

  it('with one is named also if it takes along nothing that should be a singleton, and not if there is nothing to take', async () => {
    const providers: Provider[] = [{ provide: APP_INTERCEPTOR, scope: Scope.REQUEST, useClass: LastSeen }];
    expect(await warnedOf(providers)).toEqual([
      'APP_INTERCEPTOR LastSeen → BackgroundTasks: it makes every controller and resolver request-scoped (1 class)',
    ]);
    expect(await warnedOf(providers, { controllers: [] })).toEqual([]);
  });

  it('names the first few of many', async () => {
    const controllers = ['A', 'B', 'C', 'D', 'E', 'F', 'G'].map((name) => {
      @Controller(name)
      class Hooked implements OnModuleInit {
        onModuleInit(): void {}
      }
      return Object.defineProperty(Hooked, 'name', { value: name });
    });
    expect(await warnedOf([{ provide: APP_INTERCEPTOR, scope: Scope.REQUEST, useClass: LastSeen }], { controllers })).toEqual([
      'APP_INTERCEPTOR LastSeen → BackgroundTasks: it makes every controller and resolver request-scoped (7 classes); ' +
        'A, B, C, D, E and 2 more need to be singletons',
    ]);
  });

  it('with one is not warned of if it injects no list', async () => {
    @Injectable()
    class Timing implements NestInterceptor {
      intercept(_: ExecutionContext, next: CallHandler) {
        return next.handle();
      }
    }
    expect(await warnedOf([{ provide: APP_INTERCEPTOR, scope: Scope.REQUEST, useClass: Timing }], { controllers: [Api] })).toEqual([]);
  });
});

describe('a provider that a factory makes', () => {
  @Injectable()
  class Jobs implements OnModuleInit {
    constructor(readonly users: Users) {}
    onModuleInit(): void {}
    @Interval(60_000)
    run(): void {}
  }

  it('is warned of by its token, if that is a class', async () => {
    const jobs: Provider = { provide: Jobs, inject: [Users], useFactory: (users: Users) => new Jobs(users) };
    expect(await warnedOf([jobs])).toEqual([
      'Jobs → Users → BackgroundTasks: its onModuleInit() will not be called; @Cron(), @Interval() or @Timeout() is for singletons',
    ]);
  });

  it('is named with its way to the list, also through a symbol', async () => {
    const USERS = Symbol('users');
    const users: Provider = { provide: USERS, inject: [Users], useFactory: (made: Users) => made };
    expect(await warnedOf([users, { provide: Jobs, inject: [USERS], useFactory: () => ({}) }])).toEqual([
      'Jobs → Symbol(users) → Users → BackgroundTasks: its onModuleInit() will not be called; @Cron(), @Interval() or @Timeout() is for singletons',
    ]);
  });

  it('is not warned of if the list has no part in it', async () => {
    expect(await warnedOf([{ provide: Jobs, inject: [], useFactory: () => new Jobs(new Users(new BackgroundTasks())) }])).toEqual([]);
  });

  it('is warned of once, also if it has a second name', async () => {
    @Injectable()
    abstract class Scheduler {
      @Interval(60_000)
      run(): void {}
    }
    expect(await warnedOf([Jobs, { provide: Scheduler, useExisting: Jobs }])).toHaveLength(1);
  });
});

describe('handlers of @nestjs/cqrs', () => {
  // Its metadata: what is looked for.
  @SetMetadata('__commandHandler__', class PlaceOrder {})
  class PlaceOrderHandler {
    constructor(readonly users: Users) {}
  }
  @Injectable({ scope: Scope.REQUEST })
  @SetMetadata('__queryHandler__', class FindOrder {})
  class FindOrderHandler {
    constructor(readonly tasks: BackgroundTasks) {}
  }
  @SetMetadata('__eventsHandler__', [class OrderPlaced {}])
  class OrderPlacedHandler {
    constructor(readonly tasks: BackgroundTasks) {}
  }
  @SetMetadata('__saga__', ['placed'])
  class OrderSagas {
    constructor(readonly tasks: BackgroundTasks) {}
  }
  for (const handler of [PlaceOrderHandler, OrderPlacedHandler, OrderSagas]) Injectable()(handler);
  const providers = [PlaceOrderHandler, FindOrderHandler, OrderPlacedHandler, OrderSagas];

  it('are named, those that are request-scoped on purpose included: no request reaches them', async () => {
    expect(await warnedOf(providers)).toEqual([
      'PlaceOrderHandler → Users → BackgroundTasks: @CommandHandler() has no request, so `addTask()` throws BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
      // Nest 11 knows what it injects only at its first request.
      ...(isNest12
        ? ['FindOrderHandler → BackgroundTasks: @QueryHandler() has no request, so `addTask()` throws BACKGROUND_TASK_UNSUPPORTED_CONTEXT']
        : []),
      'OrderPlacedHandler → BackgroundTasks: @EventsHandler() has no request, so its tasks start at once or are refused',
      'OrderSagas → BackgroundTasks: @Saga() is for singletons: @nestjs/cqrs does not start',
    ]);
  });

  it('are fine under Scope.DEFAULT', async () => {
    expect(await warnedOf(providers, { scope: Scope.DEFAULT })).toEqual([]);
  });
});

describe('a Passport strategy that the injection of the list makes request-scoped', () => {
  class Plain extends Strategy {
    override authenticate(): void {}
  }

  @Injectable()
  class JwtStrategy extends PassportStrategy(Plain, 'jwt') {
    constructor(readonly users: Users) {
      super();
    }
    validate(): object {
      return {};
    }
  }

  const made: Provider = { provide: JwtStrategy, inject: [Users], useFactory: (users: Users) => new JwtStrategy(users) };

  it.each([['a class', JwtStrategy] as const, ['a factory', made] as const])('is an error at boot, if it is %s', async (_, provider) => {
    const error = await createApp('Express', moduleOf([provider])).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BackgroundTasksError);
    expect(error).toMatchObject({
      code: 'BACKGROUND_TASK_UNSUPPORTED_CONTEXT',
      message:
        'A request-scoped Passport strategy is never registered, and injecting BackgroundTasks makes these request-scoped: ' +
        'JwtStrategy → Users → BackgroundTasks. Configure `BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })`, or do not inject the ' +
        'list there: take the list as a parameter of the handler, `@BackgroundTasks() tasks: BackgroundTasks`, and pass it on, or get it with `BackgroundTasks.of(context)`',
    });
  });

  it('is fine under Scope.DEFAULT', async () => {
    expect(await warnedOf([JwtStrategy], { scope: Scope.DEFAULT })).toEqual([]);
  });
});

describe('a Nest that lacks what the check reads', () => {
  @Injectable()
  class Mailer implements OnModuleInit {
    constructor(readonly tasks: BackgroundTasks) {}
    onModuleInit(): void {}
  }

  /** Renames a member when Nest itself has made its use of it: this hook runs before ours. */
  function withoutMember(name: string): Type {
    @Injectable()
    class Saboteur implements OnModuleInit {
      constructor(private readonly modules: ModulesContainer) {}
      onModuleInit(): void {
        for (const module of this.modules.values()) {
          for (const wrapper of module.providers.values()) Object.defineProperty(wrapper, name, { value: undefined });
        }
      }
    }

    @Module({ imports: [BackgroundTasksModule], providers: [Saboteur, Mailer], controllers: [PlainController] })
    class AppModule {}
    return AppModule;
  }

  it.each(['getCtorMetadata', 'getPropertiesMetadata', 'getEnhancersMetadata', 'scope', 'token', 'metatype', 'inject', 'isAlias'])(
    'starts without %s, and says that it could not check',
    async (name) => {
      const { http, logs } = await createApp('Express', withoutMember(name));
      await http.get('/').expect(200, 'ok');
      expect(logs.of('warn')).toEqual([expect.stringContaining(`this version of Nest has no \`InstanceWrapper#${name}\``)]);
      const [said] = logs.of('warn')[0]!.split('\n');
      expect(readFileSync('docs/troubleshooting.md', 'utf8')).toContain(`\n${said!.replace(/(?<=core ).*(?=\) differs)/, '…')}\n`);
    },
  );
});
