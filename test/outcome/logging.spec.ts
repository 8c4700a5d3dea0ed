// Guarantee 5: with nestjs-pino, a failing task is one structured line. Guarantee 9: arguments are never logged.
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Module, Param } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { Logger, LoggerModule, PinoLogger } from 'nestjs-pino';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';

let opened: Gate;
let lines: LogLine[];

const destination = { write: (line: string) => void lines.push(JSON.parse(line)) };

interface LogLine {
  readonly level: number;
  readonly context: string;
  readonly msg: string;
  readonly req?: { readonly url: string };
  readonly err?: { readonly message: string; readonly stack: string };
}

beforeEach(() => {
  opened = gate();
  lines = [];
});

async function charge(_card: string): Promise<void> {
  await opened.opened;
  throw new RangeError('card declined');
}

@Controller()
class OrdersController {
  @Get('orders/:id')
  order(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(charge, `4242 4242 4242 000${id}`);
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
      err: {
        message: 'Background task "charge" failed: card declined',
        stack: expect.stringMatching(/^RangeError: card declined\n +at charge /),
      },
    });
    expect(JSON.stringify(lines)).not.toContain('4242');
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
