import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import type { INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import request from 'supertest';
import { Mailer } from '../sample/02-readme/adding-tasks.js';
import { AppModule } from '../sample/02-readme/first-screen.js';
import { sent } from '../sample/02-readme/notifications.js';
import { AppModule as ConfiguredModule, metrics } from '../sample/02-readme/options.js';
import { createApp, platforms } from './support/app.js';

describe('the first screen of the README', () => {
  let app: INestApplication;

  beforeEach(async () => {
    const testingModule = await Test.createTestingModule({ imports: [AppModule] }).compile();
    app = testingModule.createNestApplication();
    await app.init();
  });

  afterEach(() => app.close());

  // prettier-ignore
  it('sends the notification', async () => {
  await request(app.getHttpServer()).post('/send-notification/foo@example.com').expect(201);
  await app.get(BackgroundTasksRunner).onIdle();
  expect(sent).toEqual([['foo@example.com', 'some notification']]);
});
});

describe.each(platforms)('the orders of the README on %s', (platform) => {
  afterEach(() => {
    jest.restoreAllMocks();
    metrics.failed.length = 0;
  });

  it('runs the tasks of an order, with a signal that reaches fetch', async () => {
    const refreshed: string[] = [];
    const elasticsearch = jest.spyOn(globalThis, 'fetch').mockImplementation(async (url, init) => {
      refreshed.push(`${String(url)} ${init?.signal?.aborted}`);
      return new Response();
    });
    const { app, http, runner } = await createApp(platform, ConfiguredModule);
    await http.post('/orders/7').expect(201, { id: '7' });
    await runner.onIdle();
    expect(app.get(Mailer).sent).toEqual(['Order 7 received']);
    expect(elasticsearch).toHaveBeenCalledTimes(1);
    expect(refreshed).toEqual(['http://127.0.0.1:9200/orders/7/_refresh false']);
  });

  it('counts the task that failed', async () => {
    const { http, runner } = await createApp(platform, ConfiguredModule);
    jest.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('fetch failed'));
    await http.post('/orders/7').expect(201);
    await runner.onIdle();
    expect(metrics.failed).toEqual(['reindex']);
  });

  it('tells of a refused order', async () => {
    const { app, http, runner } = await createApp(platform, ConfiguredModule);
    await http.post('/orders/0').expect(400);
    await runner.onIdle();
    expect(app.get(Mailer).sent).toEqual(['Order 0 was refused']);
  });
});
