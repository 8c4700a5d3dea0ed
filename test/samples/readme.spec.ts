// Sample 02: the snippets of the README.
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { Mailer } from '../../sample/02-readme/adding-tasks.js';
import { AppModule } from '../../sample/02-readme/first-screen.js';
import { NightlyReport } from '../../sample/02-readme/nightly-report.js';
import { AppModule as ConfiguredModule, metrics } from '../../sample/02-readme/options.js';
import { createApp, platforms } from '../support/app.js';

const email = 'foo@example.com';

describe.each(platforms)('the first screen of the README on %s', (platform) => {
  it('answers, and then logs the notification', async () => {
    const { http, runner, logs } = await createApp(platform, AppModule);
    const logged = jest.spyOn(logs, 'log');
    await http.post('/send-notification/foo@example.com').expect(201, { message: 'Notification sent in the background' });
    expect(logged).not.toHaveBeenCalledWith('some notification for foo@example.com', 'Notifications');
    await runner.onIdle();
    expect(logged).toHaveBeenCalledWith('some notification for foo@example.com', 'Notifications');
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
    await http.post('/orders/7').send({ email }).expect(201, { id: '7' });
    await runner.onIdle();
    expect(app.get(Mailer).sent).toEqual([`${email}: order received`, `${email}: your invoice`]);
    expect(elasticsearch).toHaveBeenCalledTimes(1);
    expect(refreshed).toEqual(['http://127.0.0.1:9200/orders/7/_refresh false']);
  });

  it('counts the task that failed', async () => {
    const { http, runner } = await createApp(platform, ConfiguredModule);
    jest.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('fetch failed'));
    await http.post('/orders/7').send({ email }).expect(201);
    await runner.onIdle();
    expect(metrics.failed).toEqual(['reindex']);
  });

  it('tells of a refused order', async () => {
    const { app, http, runner } = await createApp(platform, ConfiguredModule);
    await http.post('/orders/0').send({ email }).expect(400);
    await runner.onIdle();
    expect(app.get(Mailer).sent).toEqual([`${email}: order refused`]);
  });
});

describe.each(platforms)('the nightly report of the README on %s', (platform) => {
  @Module({ imports: [BackgroundTasksModule], providers: [Mailer, NightlyReport] })
  class ReportModule {}

  it('is sent when it has been written', async () => {
    const { app, runner } = await createApp(platform, ReportModule);
    await app.get(NightlyReport).write();
    await runner.onIdle();
    expect(app.get(Mailer).sent).toEqual(['boss@example.com: report 1']);
  });
});
