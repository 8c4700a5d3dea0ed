// Guarantees 4 and 8: an interceptor that answers early does not start tasks, or end a shutdown, before its handler has ended.
import { beforeEach, describe, expect, it } from '@jest/globals';
import {
  type CallHandler,
  Controller,
  type ExecutionContext,
  Get,
  Injectable,
  Module,
  type NestInterceptor,
  type OnModuleDestroy,
  RequestTimeoutException,
  UseInterceptors,
} from '@nestjs/common';
import { ApplicationConfig } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { type Observable, catchError, from, map, race, throwError, timeout } from 'rxjs';
import { type TestApp, createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';
import { turns } from '../support/turns.js';

// An interceptor may answer before its handler has ended, as Nest's own documentation shows with `timeout()`. The handler is at work all
// the same.

let log: string[];
/** Opened when the handler is to end. */
let held: Gate;
/** Opened when the interceptor that races is to win. */
let lost: Gate;

beforeEach(() => {
  log = [];
  held = gate();
  lost = gate();
});

@Injectable()
class TimeoutInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      timeout(10),
      catchError(() => throwError(() => new RequestTimeoutException())),
    );
  }
}

@Injectable()
class RaceInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return race(next.handle(), from(lost.opened).pipe(map(() => 'from elsewhere')));
  }
}

@Controller()
class SlowController {
  @Get('timeout')
  @UseInterceptors(TimeoutInterceptor)
  timeout(@BackgroundTasks() tasks: BackgroundTasks) {
    return this.#work(tasks);
  }

  @Get('race')
  @UseInterceptors(RaceInterceptor)
  async race(@BackgroundTasks() tasks: BackgroundTasks) {
    lost.open();
    await this.#work(tasks);
    throw new Error('nobody hears of it');
  }

  async #work(tasks: BackgroundTasks): Promise<void> {
    addOutcomeTasks(tasks, (name) => log.push(name));
    await held.opened;
    tasks.addTask({ name: 'added last', runOn: 'always' }, () => log.push('added last'));
    log.push('handler ends');
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [SlowController] })
class SlowModule implements OnModuleDestroy {
  onModuleDestroy() {
    log.push('disconnected');
  }
}

describe.each(platforms)('on %s, an interceptor that answers before its handler has ended', (platform) => {
  async function ended({ runner, logs }: TestApp): Promise<void> {
    await turns();
    expect(log).toEqual([]);
    held.open();
    await runner.onIdle();
    expect(runner.discardedCount).toBe(1);
    expect(logs.of('warn')).toEqual([]);
  }

  it('with an exception makes the outcome a failure, and no task starts before the handler has ended', async () => {
    const app = await createApp(platform, SlowModule);
    await app.http.get('/timeout').expect(408);
    await ended(app);
    expect(log).toEqual(['handler ends', 'failure', 'always', 'added last']);
  });

  it('with a value from elsewhere makes the outcome a success, whatever becomes of the handler', async () => {
    const app = await createApp(platform, SlowModule);
    await app.http.get('/race').expect(200, 'from elsewhere');
    await ended(app);
    expect(log).toEqual(['handler ends', 'success', 'always', 'added last']);
  });

  it('has the same outcome behind an interceptor that a library puts in front of all others', async () => {
    const first: NestInterceptor = { intercept: (_context, next) => next.handle() };
    const app = await createApp(platform, SlowModule, {
      configure: (nestApp) => void nestApp.get(ApplicationConfig).getGlobalInterceptors().unshift(first),
    });
    await app.http.get('/timeout').expect(408);
    await ended(app);
    expect(log).toEqual(['handler ends', 'failure', 'always', 'added last']);
  });

  it.each([
    ['/timeout', 'failure'],
    ['/race', 'success'],
  ])('does not have the databases disconnect under its handler: %s', async (path, outcome) => {
    const { app, http } = await createApp(platform, SlowModule);
    await http.get(path);
    const closed = app.close();
    await turns();
    expect(log).toEqual([]);
    held.open();
    await closed;
    expect(log).toEqual(['handler ends', outcome, 'always', 'added last', 'disconnected']);
  });
});
