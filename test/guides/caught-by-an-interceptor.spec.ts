// Guide: docs/guarantees.md, "Outcome": an exception that an interceptor turns into a value is a success.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, UseInterceptors } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { catchError, of, throwError } from 'rxjs';
import { createApp, platforms } from '../support/app.js';
import { addOutcomeTasks } from '../support/outcome-tasks.js';

let ran: string[];

beforeEach(() => {
  ran = [];
});

describe.each(platforms)('an exception of the handler on %s', (platform) => {
  @Controller()
  class FailingController {
    @Get('value')
    @UseInterceptors({ intercept: (_context, next) => next.handle().pipe(catchError(() => of('a value'))) })
    value(@BackgroundTasks() tasks: BackgroundTasks): void {
      this.#fail(tasks);
    }

    @Get('another-exception')
    @UseInterceptors({ intercept: (_context, next) => next.handle().pipe(catchError(() => throwError(() => new Error('another')))) })
    anotherException(@BackgroundTasks() tasks: BackgroundTasks): void {
      this.#fail(tasks);
    }

    #fail(tasks: BackgroundTasks): void {
      addOutcomeTasks(tasks, (name) => void ran.push(name));
      throw new Error('handler');
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [FailingController] })
  class FailingModule {}

  it.each([
    ['a value: success', 'value', 200, ['success', 'always']],
    ['another exception: failure', 'another-exception', 500, ['failure', 'always']],
  ])('that an interceptor turns into %s', async (_, path, status, expected) => {
    const { http, runner } = await createApp(platform, FailingModule);
    await http.get(`/${path}`).expect(status);
    await runner.onIdle();
    expect(ran).toEqual(expected);
  });
});
