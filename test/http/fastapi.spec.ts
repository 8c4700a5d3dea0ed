// Guarantees 1, 2 and 5: the tests of FastAPI and of Starlette pass here as well.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Inject, Injectable, Module, Param, Post, Query, Scope } from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

// FastAPI's and Starlette's own tests of the feature, in Nest.

let log = '';

function writeLog(message: string): void {
  log += message;
}

function writeNotification(email: string, message = ''): void {
  log = `notification for ${email}: ${message}`;
}

@Injectable()
class QueryLog {
  constructor(private readonly tasks: BackgroundTasks) {}

  record(q: string | undefined): void {
    if (q) this.tasks.addTask(writeLog, `found query: ${q}\n`);
  }
}

/** FastAPI's dependency that returns the very object that it was given. */
@Injectable({ scope: Scope.REQUEST })
class ReturnedList {
  constructor(readonly tasks: BackgroundTasks) {}
}

@Controller()
class FastApiController {
  constructor(
    private readonly queryLog: QueryLog,
    @Inject(ReturnedList) private readonly returned: ReturnedList,
  ) {}

  @Post('tutorial001/:email')
  tutorial001(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(writeNotification, email, 'some notification');
    return { message: 'Notification sent in the background' };
  }

  @Post('tutorial002/:email')
  tutorial002(@Param('email') email: string, @Query('q') q: string | undefined, @BackgroundTasks() tasks: BackgroundTasks) {
    this.queryLog.record(q);
    tasks.addTask(writeLog, `message to ${email}\n`);
    return { message: 'Message sent' };
  }

  @Get('response-dependency')
  responseDependency(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(writeLog, 'from the handler\n');
    this.returned.tasks.addTask(writeLog, 'from the dependency\n');
    return { same: this.returned.tasks === tasks };
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [FastApiController], providers: [QueryLog, ReturnedList] })
class FastApiModule {}

beforeEach(() => {
  log = '';
});

describe.each(platforms)("FastAPI's tests on %s", (platform) => {
  it('test_tutorial001: a task runs after the response', async () => {
    const { http, runner } = await createApp(platform, FastApiModule);
    const response = await http.post('/tutorial001/foo@example.com').expect(201);
    expect(response.body).toEqual({ message: 'Notification sent in the background' });
    await runner.onIdle();
    expect(log).toBe('notification for foo@example.com: some notification');
  });

  it('test_tutorial002: tasks of a dependency and of the handler share one list', async () => {
    const { http, runner } = await createApp(platform, FastApiModule);
    const response = await http.post('/tutorial002/foo@example.com?q=some-query').expect(201);
    expect(response.body).toEqual({ message: 'Message sent' });
    await runner.onIdle();
    expect(log).toBe('found query: some-query\nmessage to foo@example.com\n');
  });

  it('test_tutorial002: without the query, only the task of the handler runs', async () => {
    const { http, runner } = await createApp(platform, FastApiModule);
    await http.post('/tutorial002/foo@example.com').expect(201);
    await runner.onIdle();
    expect(log).toBe('message to foo@example.com\n');
  });

  it('test_response_dependency: a dependency that returns the same list, both tasks run', async () => {
    const { http, runner } = await createApp(platform, FastApiModule);
    const response = await http.get('/response-dependency').expect(200);
    expect(response.body).toEqual({ same: true });
    await runner.onIdle();
    expect(log).toBe('from the handler\nfrom the dependency\n');
  });
});

describe("Starlette's test_background.py", () => {
  it('runs an async task', async () => {
    let complete = false;
    await new BackgroundTask(async () => {
      await Promise.resolve();
      complete = true;
    }).run();
    expect(complete).toBe(true);
  });

  it('runs a sync task', async () => {
    let complete = false;
    await new BackgroundTask(() => {
      complete = true;
    }).run();
    expect(complete).toBe(true);
  });

  it('runs several tasks with their arguments', async () => {
    let counter = 0;
    const increment = async (amount: number): Promise<void> => {
      await Promise.resolve();
      counter += amount;
    };
    const tasks = new BackgroundTasks();
    tasks.addTask(increment, 1);
    tasks.addTask(increment, 2);
    tasks.addTask({ name: 'third' }, increment, 3);
    await tasks.run();
    expect(counter).toBe(6);
  });
});

describe.each(platforms)("Starlette's test_multi_tasks_failure_avoids_next_execution on %s", (platform) => {
  const counters = { before: 0, after: 0 };

  @Controller()
  class FailingController {
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(() => void counters.before++);
      tasks.addTask(() => {
        throw new Error('task failed');
      });
      tasks.addTask(() => void counters.after++);
      return 'task initiated';
    }
  }

  @Module({ imports: [BackgroundTasksModule.forRoot({ onTaskFailure: 'stop' })], controllers: [FailingController] })
  class StopModule {}

  @Module({ imports: [BackgroundTasksModule], controllers: [FailingController] })
  class ContinueModule {}

  beforeEach(() => {
    counters.before = 0;
    counters.after = 0;
  });

  it("'stop' is Starlette's rule: the next task does not run", async () => {
    const { http, runner, logs } = await createApp(platform, StopModule);
    await http.get('/').expect(200, 'task initiated');
    await runner.onIdle();
    expect(counters).toEqual({ before: 1, after: 0 });
    expect(logs.of('debug')).toEqual(['Background task "anonymous" was discarded: an earlier task of its request failed']);
  });

  it("'continue' is the default: the next task runs", async () => {
    const { http, runner } = await createApp(platform, ContinueModule);
    await http.get('/').expect(200, 'task initiated');
    await runner.onIdle();
    expect(counters).toEqual({ before: 1, after: 1 });
  });
});
