import { get } from 'node:http';
import { inspect } from 'node:util';
import { Controller, Get, type LoggerService, Module, type OnModuleDestroy } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner, currentTask } from 'nestjs-background-tasks';
import { Observable } from 'rxjs';
import { gate } from './gate.js';
import { turns } from './turns.js';

// A program that code-of-others.spec.ts starts, as it changes what a whole process shares. It prints one line for each thing that happens.

const [, , platform, kind] = process.argv;
const closing = gate();

function say(what: string): void {
  process.stdout.write(`${what.replaceAll('\n', ' ')}\n`);
}

function fail(): never {
  throw new Error('of the user');
}

/** Never ends, and throws when it is unsubscribed from. */
const endless = (): Observable<never> => new Observable(() => fail);

/** A value that a task returns or throws, and that throws when it is read. */
const results: Record<string, () => unknown> = {
  error: () => fail(),
  reason: () => Promise.reject(Object.assign(Object.create(null), { toString: fail, [inspect.custom]: fail, [Symbol.toPrimitive]: fail })),
  'a getter of an error': () => {
    throw Object.defineProperties(new Error(), { message: { get: fail }, stack: { get: fail }, name: { get: fail }, cause: { get: fail } });
  },
  'a getter `then`': () => ({
    get then() {
      return fail();
    },
  }),
  'a getter `next`': () => ({
    get next() {
      return fail();
    },
  }),
  'a getter `lift`': () => ({
    get lift() {
      return fail();
    },
  }),
  'a getter `next` in a promise': async () => ({
    get next() {
      return fail();
    },
  }),
  'a proxy': () => new Proxy({}, { has: fail, get: fail, getPrototypeOf: fail }),
};

@Controller()
class HostileController {
  @Get('results')
  results(@BackgroundTasks() tasks: BackgroundTasks) {
    for (const [name, func] of Object.entries(results)) {
      tasks.addTask({ name }, func);
      tasks.addTask(() => say(`ran: after ${name}`));
    }
  }

  @Get('teardowns')
  teardowns(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ name: 'timed out', timeout: 5 }, endless);
    tasks.addTask(() => say('ran: after the timeout'));
    tasks.addTask({ name: 'cancelled' }, () => {
      const task = currentTask()!;
      setImmediate(() => task.cancel());
      return endless();
    });
    tasks.addTask(() => say('ran: after the cancellation'));
    tasks.addTask({ name: 'listener', timeout: 5 }, () => {
      currentTask()!.signal.onabort = () => say('signal');
      return new Promise(() => {});
    });
  }

  @Get('left')
  left(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ name: 'aborted' }, endless);
    tasks.addTask({ name: 'behind it' }, fail);
  }

  @Get('slow')
  slow(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask({ name: 'slow' }, async () => {
      await closing.opened;
      await turns();
      say('ran: slow');
    });
  }
}

@Module({
  imports: [
    BackgroundTasksModule.forRoot({
      shutdownTimeout: 300,
      onError: (_error, task) => say(`onError: ${task.name}`),
    }),
  ],
  controllers: [HostileController],
})
class HostileModule implements OnModuleDestroy {
  onModuleDestroy(): void {
    say('destroyed');
  }
}

const line = (message: unknown, ...rest: unknown[]): void => {
  if (rest.at(-1) === 'BackgroundTasks') say(`logged: ${String(message)}`);
};
const logger: LoggerService = { log() {}, warn: line, error: line, debug: line };

const app = await NestFactory.create(HostileModule, platform === 'Fastify' ? new FastifyAdapter() : new ExpressAdapter(), { logger });
app.enableShutdownHooks();
await app.listen(0, '127.0.0.1');
const { port } = app.getHttpServer().address() as { port: number };
const runner = app.get(BackgroundTasksRunner);

const send = (path: string): Promise<void> =>
  new Promise((resolve) => get({ port, host: '127.0.0.1', path, agent: false }, (response) => response.resume().on('end', resolve)));

const kinds: Record<string, () => void> = {
  'prepareStackTrace throws': () => void (Error.prepareStackTrace = fail),
  'Error is frozen': () => void Object.freeze(Error),
  'stackTraceLimit throws': () => void Object.defineProperty(Error, 'stackTraceLimit', { get: fail, set: fail }),
  nothing: () => undefined,
};
kinds[kind!]!();

for (const path of ['/results', '/teardowns']) {
  await send(path);
  await runner.onIdle();
}
await send('/left');
await send('/slow');
const closed = app.close();
closing.open();
await closed;
say('closed');
