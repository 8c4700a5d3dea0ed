// Guarantee 4: where an interceptor tries a handler again, the tasks of a run that failed have the outcome of that run.
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type CallHandler,
  Controller,
  Get,
  Injectable,
  Module,
  type NestInterceptor,
  Param,
  Scope,
  type Type,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import type { CanActivate, ExecutionContext } from '@nestjs/common';
import {
  BackgroundTask,
  BackgroundTasks,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  type BackgroundTasksModuleOptions,
  type EngineEntry,
} from 'nestjs-background-tasks';
import { Observable, concat, of, retry, throwError } from 'rxjs';
import { createApp, platforms } from '../support/app.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';

let ran: string[];
let run: number;
/** The runs that fail. */
let failures: number;

beforeEach(() => {
  ran = [];
  run = failures = 0;
});

/** Sends a value before it errors. */
const partly = (fails: boolean): unknown =>
  fails
    ? concat(
        of('a part'),
        throwError(() => new Error('lost')),
      )
    : of('ordered');

/** How a run of the handler fails, or succeeds. */
const ways: Record<string, (fails: boolean) => unknown> = {
  'throws at once': (fails) => {
    if (fails) throw new Error('lost to another');
    return 'ordered';
  },
  rejects: async (fails) => {
    await Promise.resolve();
    if (fails) throw new Error('lost to another');
    return 'ordered';
  },
  'returns an Observable that errors': (fails) => (fails ? throwError(() => new Error('lost to another')) : of('ordered')),
  'returns a promise of an Observable that errors': async (fails) =>
    fails ? throwError(() => new Error('lost to another')) : of('ordered'),
};

class RetryInterceptor implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry(2));
  }
}

/** Its tasks are of the request, and not of a run. */
@Injectable()
class AddingInterceptor implements NestInterceptor {
  constructor(private readonly tasks: BackgroundTasks) {}

  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    addOutcomeTasks(this.tasks, (name) => ran.push(`interceptor: ${name}`));
    return next.handle();
  }
}

@Injectable()
class AddingGuard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}

  canActivate(): boolean {
    addOutcomeTasks(this.tasks, (name) => ran.push(`guard: ${name}`));
    return true;
  }
}

@Injectable()
class Orders {
  constructor(private readonly tasks: BackgroundTasks) {}

  place(): void {
    addTasks(this.tasks);
  }
}

function addTasks(tasks: BackgroundTasks): void {
  const number = ++run;
  addOutcomeTasks(tasks, (name) => ran.push(`run ${number}: ${name}`));
}

@Controller()
@UseGuards(AddingGuard)
@UseInterceptors(AddingInterceptor, RetryInterceptor)
class OrdersController {
  constructor(private readonly orders: Orders) {}

  @Get('parameter/:way')
  parameter(@Param('way') way: string, @BackgroundTasks() tasks: BackgroundTasks) {
    addTasks(tasks);
    return (ways[way] ?? partly)(run <= failures);
  }

  @Get('injected/:way')
  injected(@Param('way') way: string) {
    this.orders.place();
    return (ways[way] ?? partly)(run <= failures);
  }
}

/** `run 1: discarded` for each task that the log says was discarded. */
const OF_THE_RUN = 'it runs on success, and the run of the handler that added it failed and was retried';

function moduleOf(scope: Scope.DEFAULT | Scope.REQUEST): Type {
  @Module({ imports: [BackgroundTasksModule.forRoot({ scope })], controllers: [OrdersController], providers: [Orders] })
  class OrdersModule {}
  return OrdersModule;
}

describe.each(platforms)('a handler that is tried again on %s', (platform) => {
  const lists = [
    ['the parameter', Scope.REQUEST, 'parameter'],
    ['the injected list', Scope.REQUEST, 'injected'],
    ['the parameter under Scope.DEFAULT', Scope.DEFAULT, 'parameter'],
    ['the injected list under Scope.DEFAULT', Scope.DEFAULT, 'injected'],
  ] as const;
  const cases = lists.flatMap(([list, scope, path]) => Object.keys(ways).map((way) => [way, list, scope, path] as const));

  it.each(cases)('that %s runs the success tasks of its last run, and the others of each: %s', async (way, _list, scope, path) => {
    failures = 2;
    const { http, runner, logs } = await createApp(platform, moduleOf(scope));
    await http.get(`/${path}/${encodeURIComponent(way)}`).expect(200, 'ordered');
    await runner.onIdle();
    expect(ran).toEqual([
      'guard: success',
      'guard: always',
      'interceptor: success',
      'interceptor: always',
      'run 1: failure',
      'run 1: always',
      'run 2: failure',
      'run 2: always',
      'run 3: success',
      'run 3: always',
    ]);
    expect(logs.of('debug').filter((line) => line.endsWith(OF_THE_RUN))).toEqual(
      Array.from({ length: 2 }, () => `Background task "success" was discarded: ${OF_THE_RUN}`),
    );
    expect(runner.discardedCount).toBe(5);
    expect(runner.pendingCount).toBe(0);
  });

  it.each(cases)('that %s, each time, is a failure: %s', async (way, _list, scope, path) => {
    failures = Infinity;
    const { http, runner } = await createApp(platform, moduleOf(scope));
    await http.get(`/${path}/${encodeURIComponent(way)}`).expect(500);
    await runner.onIdle();
    const runs = [1, 2, 3].flatMap((number) => [`run ${number}: failure`, `run ${number}: always`]);
    expect(ran).toEqual(['guard: failure', 'guard: always', 'interceptor: failure', 'interceptor: always', ...runs]);
  });

  it('that succeeds at once runs each task once', async () => {
    const { http, runner } = await createApp(platform, moduleOf(Scope.REQUEST));
    await http.get('/parameter/rejects').expect(200, 'ordered');
    await runner.onIdle();
    expect(ran.filter((line) => line.startsWith('run'))).toEqual(['run 1: success', 'run 1: always']);
  });
});

describe.each(platforms)('an engine on %s', (platform) => {
  const taken: EngineEntry[] = [];
  const engine: BackgroundTasksEngine = {
    enqueue: async (entries) => void taken.push(...entries),
    work: () => undefined,
    close: async () => undefined,
  };

  @Injectable()
  class Mail {
    @BackgroundTask('mail')
    send(_run: number): void {}

    @BackgroundTask('apology', { runOn: 'failure' })
    apologise(_run: number): void {}
  }

  @Injectable()
  class AuditGuard implements CanActivate {
    constructor(private readonly tasks: BackgroundTasks) {}

    canActivate(): boolean {
      this.tasks.addTask(() => void ran.push('guard'));
      return true;
    }
  }

  @Controller()
  @UseGuards(AuditGuard)
  @UseInterceptors(RetryInterceptor)
  class MailController {
    constructor(private readonly mail: Mail) {}

    @Get(':way')
    get(@Param('way') way: string, @BackgroundTasks() tasks: BackgroundTasks) {
      run += 1;
      tasks.addTask(this.mail.send, run);
      tasks.addTask(this.mail.apologise, run);
      return (ways[way] ?? partly)(run <= failures);
    }
  }

  async function serve(options: BackgroundTasksModuleOptions) {
    taken.length = 0;
    failures = 2;
    @Module({
      imports: [BackgroundTasksModule.forRootAsync({ useFactory: () => ({ engine, ...options }) })],
      controllers: [MailController],
      providers: [Mail],
    })
    class MailModule {}
    return createApp(platform, MailModule);
  }

  it.each(['before-response', 'after-response'] as const)(
    "gets the tasks of the last run, and what runs on the failure of others, '%s'",
    async (flush) => {
      for (const way of Object.keys(ways)) {
        run = 0;
        const { http, runner } = await serve({ flush });
        await http.get(`/${encodeURIComponent(way)}`).expect(200, 'ordered');
        await runner.onIdle();
        expect(taken.map(({ name, args }) => `${name} ${args}`).toSorted()).toEqual(['apology [1]', 'apology [2]', 'mail [3]']);
      }
    },
  );

  it('has a task of the failed run already: the in-process tasks from before that run are not taken for its own', async () => {
    const { http, runner } = await serve({});
    await http.get('/partly').expect(200);
    await runner.onIdle();
    expect(ran).toEqual(['guard']);
  });
});

it('an Observable that sends a value before it errors counts as a run that failed, too', async () => {
  failures = 1;
  const { http, runner } = await createApp('Express', moduleOf(Scope.REQUEST));
  await http.get('/parameter/partly').expect(200);
  await runner.onIdle();
  expect(ran.filter((line) => line.startsWith('run'))).toEqual(['run 1: failure', 'run 1: always', 'run 2: success', 'run 2: always']);
});
