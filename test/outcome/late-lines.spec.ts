// Guarantee 7: lines about a task are written in the async context of the code that added it, also those about an end that comes late.
import { AsyncLocalStorage } from 'node:async_hooks';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, type LoggerService, Module } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';
import { type Gate, gate } from '../support/gate.js';
import { Recorder } from '../support/recorder.js';

const requestId = new AsyncLocalStorage<string>();
let late: Gate;

beforeEach(() => {
  late = gate();
});

describe.each(platforms)('the log of late ends on %s', (platform) => {
  it('knows the request of each line', async () => {
    const lines = new Recorder<string>();
    const write = (message: unknown, ...rest: unknown[]): void => {
      if (rest.at(-1) === 'BackgroundTasks') lines.add(`${requestId.getStore()} | ${/"(.*?)" ([a-z ]+)/.exec(String(message))![0]}`);
    };
    const logger: LoggerService = { log() {}, error: write, warn: write, debug: write };

    @Controller()
    class LateController {
      @Get()
      get(@BackgroundTasks() tasks: BackgroundTasks) {
        requestId.run('request 7', () => {
          tasks.addTask({ name: 'completes', timeout: 5 }, () => late.opened);
          tasks.addTask({ name: 'fails', timeout: 5 }, async () => {
            await late.opened;
            throw new Error('late');
          });
          tasks.addTask({ name: 'stops', timeout: 5 }, async () => {
            const { signal } = currentTask()!;
            await late.opened;
            signal.throwIfAborted();
          });
        });
      }
    }

    @Module({ imports: [BackgroundTasksModule], controllers: [LateController] })
    class LateModule {}

    const { http, runner } = await createApp(platform, LateModule, { configure: (app) => app.useLogger(logger) });
    await http.get('/').expect(200);
    await runner.onIdle();
    late.open();
    await lines.atLeast(6);
    expect(lines.all).toEqual([
      'request 7 | "completes" did not end within its timeout of ',
      'request 7 | "fails" did not end within its timeout of ',
      'request 7 | "stops" did not end within its timeout of ',
      'request 7 | "completes" completed after it had been aborted',
      'request 7 | "fails" failed after it had been aborted',
      'request 7 | "stops" stopped when its signal fired',
    ]);
  });
});
