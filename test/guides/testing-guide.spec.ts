// Guide: docs/testing.md, how users test code that adds tasks.
import { once } from 'node:events';
import { type ServerResponse, get } from 'node:http';
import { setImmediate, setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { type CanActivate, Controller, Get, type INestApplication, Injectable, Module, Post, Res, UseGuards } from '@nestjs/common';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  BackgroundTask,
  BackgroundTasks,
  type BackgroundTasksEngine,
  BackgroundTasksModule,
  BackgroundTasksRunner,
  currentTask,
} from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { type InProcessEngine, inProcessEngine } from 'nestjs-background-tasks/testing';
import request from 'supertest';
import { AppModule, Mailer, SignUpController, SignUpService, Statistics } from '../../sample/11-testing/sign-up.js';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

const email = 'foo@example.com';

describe('running the tasks of a request', () => {
  let app: INestApplication;

  beforeEach(async () => {
    const testingModule = await Test.createTestingModule({ imports: [AppModule] }).compile();
    app = testingModule.createNestApplication();
    await app.init();
  });

  afterEach(() => app.close());

  it('welcomes who signs up', async () => {
    await request(app.getHttpServer()).post('/sign-ups').send({ email }).expect(201);
    await app.get(BackgroundTasksRunner).onIdle();
    expect(app.get(Mailer).sent).toEqual([email]);
  });
});

describe('looking at tasks instead of running them', () => {
  let app: INestApplication;
  let tasks: BackgroundTasks;

  beforeEach(async () => {
    tasks = new BackgroundTasks();
    const testingModule = await Test.createTestingModule({ imports: [AppModule] })
      .overrideProvider(BackgroundTasks)
      .useValue(tasks)
      .compile();
    app = testingModule.createNestApplication();
    await app.init();
  });

  afterEach(() => app.close());

  it('records what the handler and the service add', async () => {
    await request(app.getHttpServer()).post('/sign-ups').send({ email }).expect(201);
    expect(tasks.tasks).toMatchObject([
      { name: 'welcome', args: [email] },
      { name: 'count', args: [] },
    ]);
    expect(app.get(Mailer).sent).toEqual([]);
  });

  it('runs what was recorded', async () => {
    await request(app.getHttpServer()).post('/sign-ups').send({ email }).expect(201);
    await tasks.run();
    expect(app.get(Mailer).sent).toEqual([email]);
    expect(app.get(Statistics).signUps).toBe(1);
  });

  it('runs one task, and waits for its end', async () => {
    await request(app.getHttpServer()).post('/sign-ups').send({ email }).expect(201);
    await tasks.tasks.find(({ name }) => name === 'count')!.run();
    expect(app.get(Statistics).signUps).toBe(1);
    expect(app.get(Mailer).sent).toEqual([]);
  });
});

describe('SignUpController', () => {
  let controller: SignUpController;
  let tasks: BackgroundTasks;

  beforeEach(async () => {
    tasks = new BackgroundTasks();
    const module: TestingModule = await Test.createTestingModule({
      controllers: [SignUpController],
      providers: [SignUpService, Mailer, Statistics, { provide: BackgroundTasks, useValue: tasks }],
    }).compile();

    controller = module.get<SignUpController>(SignUpController);
  });

  it('adds the tasks', () => {
    controller.signUp(email, tasks);
    expect(tasks.tasks).toMatchObject([{ name: 'welcome', args: [email] }, { name: 'count' }]);
  });
});

describe('a spec that mocks the rest', () => {
  it('adds the tasks', async () => {
    const tasks = new BackgroundTasks();
    const module = await Test.createTestingModule({ controllers: [SignUpController], providers: [SignUpService] })
      .useMocker((token) => (token === BackgroundTasks ? tasks : {}))
      .compile();
    module.get(SignUpController).signUp(email, tasks);
    expect(tasks.tasks).toMatchObject([{ name: 'welcome', args: [email] }, { name: 'count' }]);
  });
});

describe('an application that is known by its address alone', () => {
  @Controller('mails')
  class MailsController {
    constructor(private readonly mailer: Mailer) {}

    @Get()
    sent(): string[] {
      return this.mailer.sent;
    }
  }

  @Module({
    imports: [BackgroundTasksModule],
    controllers: [SignUpController, MailsController],
    providers: [Mailer, SignUpService, Statistics],
  })
  class MailingModule {}

  /** Repeats the check until it passes. After five seconds, throws the error of the check. */
  async function eventually(check: () => Promise<void>): Promise<void> {
    const deadline = Date.now() + 5_000;
    for (;;) {
      try {
        return await check();
      } catch (error) {
        if (Date.now() > deadline) throw error;
        await setTimeout(50);
      }
    }
  }

  it('welcomes who signs up', async () => {
    const { url } = await createApp('Express', MailingModule);
    await request(url).post('/sign-ups').send({ email }).expect(201);
    await eventually(async () => void (await request(url).get('/mails').expect([email])));
  });
});

describe('a controller without Nest', () => {
  it('adds the tasks', async () => {
    const tasks = new BackgroundTasks();
    const mailer = new Mailer();
    const controller = new SignUpController(new SignUpService(tasks, new Statistics()), mailer);
    expect(controller.signUp(email, tasks)).toMatchObject({ email });
    await tasks.run();
    expect(mailer.sent).toEqual([email]);
  });
});

describe('waiting for one task of a running application', () => {
  it('while another is at work', async () => {
    const testingModule = await Test.createTestingModule({ imports: [AppModule] }).compile();
    const app = await testingModule.createNestApplication().init();
    const slow = gate();
    app.get(Mailer).welcome = (to) => (to === email ? Promise.resolve() : slow.opened);
    const signUp = (who: string) => request(app.getHttpServer()).post('/sign-ups').send({ email: who }).expect(201);

    await signUp('slow@example.com');
    const { body } = await signUp(email);
    await app.get(BackgroundTasksRunner).find(body.welcome)?.ended;
    expect(app.get(BackgroundTasksRunner).activeCount).toBeGreaterThan(0);

    slow.open();
    await app.close();
  });
});

describe('fake timers', () => {
  afterEach(() => void jest.useRealTimers());

  it('let a task that waits a day end at once', async () => {
    jest.useFakeTimers();
    const sent: string[] = [];
    const tasks = new BackgroundTasks();
    tasks.addTask(async () => {
      await new Promise((resolve) => globalThis.setTimeout(resolve, 86_400_000));
      sent.push('How do you like it?');
    });
    const ran = tasks.run();
    await jest.advanceTimersByTimeAsync(86_400_000);
    await ran;
    expect(sent).toEqual(['How do you like it?']);
  });

  it('let a timeout pass', async () => {
    jest.useFakeTimers();
    const tasks = new BackgroundTasks();
    tasks.addTask({ name: 'endless', timeout: 60_000 }, () => new Promise(() => {}));
    const failed = expect(tasks.run()).rejects.toMatchObject({ code: 'BACKGROUND_TASK_TIMEOUT', task: 'endless' });
    await jest.advanceTimersByTimeAsync(60_000);
    await failed;
  });
});

describe.each(platforms)('under fake timers on %s, onIdle() waits for a task that pauses', (platform) => {
  let pause: () => Promise<unknown>;
  let pausing: Gate;
  let happened: string[];

  @Controller()
  class PausingController {
    @Get()
    get(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(async () => {
        const paused = pause();
        pausing.open();
        await paused;
        happened.push('task ended');
      });
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [PausingController] })
  class PausingModule {}

  async function advanceWhilePausing(milliseconds: number) {
    const { http, runner } = await createApp(platform, PausingModule);
    jest.useFakeTimers();
    await http.get('/').expect(200);
    const idle = runner.onIdle().then(() => happened.push('idle'));
    await pausing.opened;
    await jest.advanceTimersByTimeAsync(milliseconds);
    return { idle };
  }

  beforeEach(() => {
    pausing = gate();
    happened = [];
  });

  afterEach(() => void jest.useRealTimers());

  it('with the global setTimeout(), until the time is advanced', async () => {
    pause = () => new Promise((resolve) => globalThis.setTimeout(resolve, 86_400_000));
    const { idle } = await advanceWhilePausing(86_399_999);
    happened.push('nearly a day later');
    await jest.advanceTimersByTimeAsync(1);
    await idle;
    expect(happened).toEqual(['nearly a day later', 'task ended', 'idle']);
  });

  it('with node:timers/promises, for as long as it takes: that pause is real', async () => {
    const enough = new AbortController();
    pause = () => setTimeout(3_600_000, undefined, { signal: enough.signal }).catch(() => undefined);
    const { idle } = await advanceWhilePausing(86_400_000);
    happened.push('a day later');
    enough.abort();
    await idle;
    expect(happened).toEqual(['a day later', 'task ended', 'idle']);
  });
});

let ranSlowly: string[];
let guardReached: Gate;
beforeEach(() => {
  ranSlowly = [];
  guardReached = gate();
});

@Injectable()
class EndlessGuard implements CanActivate {
  constructor(private readonly tasks: BackgroundTasks) {}

  canActivate(): Promise<boolean> {
    this.tasks.addTask({ name: 'left alone', runOn: 'always' }, () => void ranSlowly.push('left alone'));
    guardReached.open();
    return new Promise(() => {});
  }
}

@Controller()
class SlowController {
  @Get('works-on')
  async worksOn(
    @Res() response: ServerResponse & { raw?: ServerResponse; send(body: string): void },
    @BackgroundTasks() tasks: BackgroundTasks,
  ) {
    tasks.addTask({ name: 'works on' }, () => void ranSlowly.push('works on'));
    const finished = once(response.raw ?? response, 'finish');
    response.send('answered');
    await finished;
  }

  @Get('left-alone')
  @UseGuards(EndlessGuard)
  leftAlone() {}
}

@Module({ imports: [BackgroundTasksModule], controllers: [SlowController] })
class SlowModule {}

describe.each(platforms)('on %s', (platform) => {
  it('onIdle() right after an answer has waited for the tasks of the request, every time', async () => {
    const { app, http, runner } = await createApp(platform, AppModule);
    app.get(Mailer).welcome = async (to) => {
      // Ends some turns of the event loop later than the client could have called onIdle().
      for (let turn = 0; turn < 3; turn++) await setImmediate();
      app.get(Mailer).sent.push(to);
    };
    for (let user = 1; user <= 50; user++) {
      await http.post('/sign-ups').send({ email }).expect(201);
      await runner.onIdle();
      expect(app.get(Mailer).sent).toHaveLength(user);
      expect(app.get(Statistics).signUps).toBe(user);
    }
  });

  it('a request and its tasks need no timer that jest has replaced', async () => {
    const tasks = new BackgroundTasks();
    const recording = await createApp(platform, AppModule, {
      build: (builder) => builder.overrideProvider(BackgroundTasks).useValue(tasks),
    });
    const { app, http, runner } = await createApp(platform, AppModule);
    app.get(Mailer).welcome = async (to) => void app.get(Mailer).sent.push(to);
    jest.useFakeTimers();
    try {
      await http.post('/sign-ups').send({ email }).expect(201);
      await runner.onIdle();
      expect(app.get(Mailer).sent).toEqual([email]);

      await recording.http.post('/sign-ups').send({ email }).expect(201);
      expect(tasks.tasks.map(({ name }) => name)).toEqual(['welcome', 'count']);
    } finally {
      jest.useRealTimers();
    }
  });

  it('nor do a handler that works on behind its answer, and a request that is left alone', async () => {
    const { url, http, runner } = await createApp(platform, SlowModule);
    jest.useFakeTimers();
    try {
      await http.get('/works-on').expect(200, 'answered');
      await runner.onIdle();
      expect(ranSlowly).toEqual(['works on']);

      // Not `fetch`: after it, `app.close()` took four seconds more.
      const left = get(`${url}/left-alone`, { agent: false });
      const unanswered = once(left, 'error');
      await guardReached.opened;
      left.destroy();
      await unanswered;
      await runner.onIdle();
      expect(ranSlowly).toEqual(['works on', 'left alone']);
    } finally {
      jest.useRealTimers();
    }
  });
});

describe('an application with an engine', () => {
  const ENGINE = Symbol('engine');
  const sent: string[] = [];
  let failures = 0;

  @Injectable()
  class MailTasks {
    @BackgroundTask('welcome-mail', { attempts: 3, backoff: 60_000 })
    async welcome(to: string): Promise<void> {
      if (currentTask()!.attempt <= failures) throw new Error('The mail server is busy');
      sent.push(to);
    }
  }

  @Controller('sign-ups')
  class WelcomingController {
    constructor(private readonly mail: MailTasks) {}

    @Post()
    signUp(@BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(this.mail.welcome, email);
    }
  }

  @Module({
    providers: [{ provide: ENGINE, useFactory: () => bullmqEngine({ connection: 'redis://127.0.0.1:1' }) }],
    exports: [ENGINE],
  })
  class EngineModule {}

  @Module({
    imports: [
      BackgroundTasksModule.forRootAsync({
        imports: [EngineModule],
        inject: [ENGINE],
        useFactory: (engine: BackgroundTasksEngine) => ({ engine }),
      }),
    ],
    controllers: [WelcomingController],
    providers: [MailTasks],
  })
  class QueuedModule {}

  let app: INestApplication;
  let engine: InProcessEngine;

  beforeEach(async () => {
    sent.length = 0;
    engine = inProcessEngine();
    const testingModule = await Test.createTestingModule({ imports: [QueuedModule] })
      .overrideProvider(ENGINE)
      .useValue(engine)
      .compile();
    app = testingModule.createNestApplication();
    await app.init();
  });

  afterEach(() => app.close());

  it('welcomes who signs up', async () => {
    await request(app.getHttpServer()).post('/sign-ups').expect(201);
    await engine.onIdle();
    expect(sent).toEqual([email]);
    expect(engine.tasks).toMatchObject([{ name: 'welcome-mail', args: [email], state: 'completed' }]);
  });

  it('tries again after a minute', async () => {
    failures = 1;
    jest.useFakeTimers({ doNotFake: ['nextTick', 'setImmediate'] });
    try {
      await request(app.getHttpServer()).post('/sign-ups').expect(201);
      await engine.onIdle();
      expect(engine.tasks).toMatchObject([{ state: 'waiting', attempt: 2, failure: 'The mail server is busy' }]);
      await jest.advanceTimersByTimeAsync(60_000);
      expect(sent).toEqual([email]);
    } finally {
      jest.useRealTimers();
      failures = 0;
    }
  });
});
