// Guarantee 5: with nestjs-pino, a failing task is one line with fields; with Nest's own logger, a message and a stack. Guarantee 9:
// arguments are never logged.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { ConsoleLogger, Controller, Get, Module, Param } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { Logger, LoggerModule, NativeLogger, PinoLogger } from 'nestjs-pino';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

let opened: Gate;
let lines: LogLine[];

const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };

interface LogLine {
  readonly level: number;
  readonly context: string;
  readonly msg: string;
  readonly task?: string;
  readonly taskId?: string;
  readonly req?: { readonly url: string };
  readonly err?: { readonly type: string; readonly message: string; readonly stack: string; readonly code?: string };
}

beforeEach(() => {
  opened = gate();
  lines = [];
});

async function charge(_card: string): Promise<void> {
  await opened.opened;
  throw new RangeError('card declined');
}

/** As those of drivers and HTTP clients are: they carry what was sent. */
class QueryError extends Error {
  readonly code = '23505';
  readonly parameters: readonly string[];
  constructor(message: string, parameter: string) {
    super(message, { cause: new TypeError('duplicate key') });
    this.parameters = [parameter];
  }
}

const LINES = '\nInvalid invocation\n  in orders.ts\nUnique constraint failed';

function insert(card: string): never {
  throw new QueryError(LINES, card);
}

@Controller()
class OrdersController {
  @Get('orders/:id')
  order(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(charge, `4242 4242 4242 000${id}`);
  }

  @Get('inserts')
  insert(@BackgroundTasks() tasks: BackgroundTasks) {
    return { id: tasks.addTask(insert, '4242 4242 4242 4242').id };
  }

  @Get('discarded')
  discarded(@BackgroundTasks() tasks: BackgroundTasks) {
    return { id: tasks.addTask({ runOn: 'failure' }, charge, '4242 4242 4242 4242').id };
  }

  @Get('too-slow')
  tooSlow(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ name: 'slow', timeout: 1 }, () => opened.opened);
  }

  @Get('odd')
  odd(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ name: 'odd' }, () => Promise.reject('no error at all'));
  }
}

@Module({
  imports: [
    LoggerModule.forRootAsync({
      // The default of nestjs-pino 5.2 matches no route on Fastify.
      useFactory: () => ({ pinoHttp: [{ autoLogging: false, level: 'debug' }, destination], forRoutes: ['{*path}'] }),
    }),
    BackgroundTasksModule.forRootAsync({
      useFactory: (logger: PinoLogger) => ({ concurrency: 1, onError: () => logger.info('onError') }),
      inject: [PinoLogger],
    }),
  ],
  controllers: [OrdersController],
})
class AppModule {}

@Module({ imports: [BackgroundTasksModule], controllers: [OrdersController] })
class PlainModule {}

describe.each(platforms)('with nestjs-pino on %s', (platform) => {
  const create = () => createApp(platform, AppModule, { configure: (app) => app.useLogger(app.get(Logger)) });

  it('a failed task is one structured line: context, error, stack, and no arguments', async () => {
    const { http, runner } = await create();
    await http.get('/orders/1').expect(200);
    opened.open();
    await runner.onIdle();
    const [line, ...others] = lines.filter(({ context }) => context === 'BackgroundTasks');
    expect(others).toEqual([]);
    expect(line).toMatchObject({
      level: 50,
      msg: 'Background task "charge" failed: card declined',
      task: 'charge',
      taskId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      err: {
        type: 'RangeError',
        message: 'card declined',
        stack: expect.stringMatching(/^RangeError: card declined\n +at charge /),
      },
    });
    expect(JSON.stringify(lines)).not.toContain('4242 4242');
  });

  it('an error has its class, its code and its causes, and nothing else of what its driver has put on it', async () => {
    const { http, runner } = await create();
    const { body } = await http.get('/inserts').expect(200);
    await runner.onIdle();
    const [line] = lines.filter(({ task }) => task === 'insert');
    expect(line).toMatchObject({ taskId: body.id, err: { type: 'QueryError', code: '23505', message: LINES } });
    expect(line?.err?.stack).toMatch(/\[cause\]: TypeError: duplicate key/);
    expect(Object.keys(line?.err ?? {}).toSorted()).toEqual(['code', 'message', 'stack', 'type']);
    expect(JSON.stringify(lines)).not.toContain('4242 4242');
  });

  it('of a message of several lines, the line has the first one, and the error has all', async () => {
    const { http, runner } = await create();
    await http.get('/inserts').expect(200);
    await runner.onIdle();
    expect(lines).toContainEqual(expect.objectContaining({ msg: 'Background task "insert" failed: Invalid invocation …' }));
  });

  it("this package's own error is a field, with its class and its code", async () => {
    const { http, runner } = await create();
    await http.get('/too-slow').expect(200);
    await runner.onIdle();
    expect(lines).toContainEqual(
      expect.objectContaining({
        msg: expect.stringMatching(/^Background task "slow" did not end within its timeout of 1 ms/),
        task: 'slow',
        err: expect.objectContaining({ type: 'BackgroundTasksTimeoutError', code: 'BACKGROUND_TASK_TIMEOUT' }),
      }),
    );
  });

  it('a discarded task is a line with its name and its id', async () => {
    const { http, runner } = await create();
    const { body } = await http.get('/discarded').expect(200);
    await runner.onIdle();
    expect(lines).toContainEqual(
      expect.objectContaining({
        level: 20,
        msg: expect.stringMatching(/^Background task "charge" was discarded/),
        task: 'charge',
        taskId: body.id,
      }),
    );
  });

  it("NativeLogger, which takes what Nest's own takes, gets the message and the stack", async () => {
    const { http, runner } = await createApp(platform, AppModule, {
      configure: (app) => app.useLogger(app.get(NativeLogger)),
    });
    await http.get('/inserts').expect(200);
    await runner.onIdle();
    expect(lines).toContainEqual(
      expect.objectContaining({ msg: 'Background task "insert" failed: Invalid invocation …', stack: expect.stringContaining(LINES) }),
    );
  });

  it('a thrown value that is no error is one structured line, too', async () => {
    const { http, runner } = await create();
    await http.get('/odd').expect(200);
    await runner.onIdle();
    expect(lines).toContainEqual(
      expect.objectContaining({ level: 50, context: 'BackgroundTasks', msg: `Background task "odd" failed: 'no error at all'` }),
    );
  });

  it('a line carries the request that its task belongs to, and so does what onError logs', async () => {
    const { http, runner } = await create();
    for (const id of [1, 2, 3]) await http.get(`/orders/${id}`).expect(200);
    opened.open();
    await runner.onIdle();
    expect(lines.filter(({ req }) => req).map(({ context, msg, req }) => `${req?.url} ${context ?? msg}`)).toEqual([
      '/orders/1 BackgroundTasks',
      '/orders/1 onError',
      '/orders/2 BackgroundTasks',
      '/orders/2 onError',
      '/orders/3 BackgroundTasks',
      '/orders/3 onError',
    ]);
  });
});

describe.each(platforms)("with Nest's own logger on %s", (platform) => {
  /** Its output. */
  class Printed extends ConsoleLogger {
    readonly text: string[] = [];
    protected override printMessages(messages: unknown[]): void {
      this.text.push(...messages.map(String));
    }
    protected override printStackTrace(stack: string): void {
      this.text.push(stack);
    }
  }

  async function printedFor(path: string): Promise<string[]> {
    const printed = new Printed('Nest', { logLevels: ['error', 'debug'] });
    const { http, runner } = await createApp(platform, PlainModule, { configure: (app) => app.useLogger(printed) });
    await http.get(path).expect(200);
    opened.open();
    await runner.onIdle();
    return printed.text;
  }

  it('a failed task is a message and a stack', async () => {
    expect(await printedFor('/orders/1')).toEqual([
      'Background task "charge" failed: card declined',
      expect.stringMatching(/^RangeError: card declined\n +at charge /),
    ]);
  });

  it('a message of several lines is printed once: the first line, and then the stack with all of them', async () => {
    const text = await printedFor('/inserts');
    expect(text).toEqual([
      'Background task "insert" failed: Invalid invocation …',
      expect.stringMatching(/^Error: \nInvalid invocation\n {2}in orders\.ts\nUnique constraint failed\n +at /),
    ]);
    expect(text.join('\n').match(/Unique constraint failed/g)).toHaveLength(1);
  });
});
