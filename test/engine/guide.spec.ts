// Guide: docs/engine.md, its first steps with one process, an API and a worker, on each server.
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Module, type Type } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { engine } from '../../sample/13-engine/queues.js';
import { SearchTasks } from '../../sample/13-engine/search.tasks.js';
import { ThumbnailTasks } from '../../sample/13-engine/thumbnail.tasks.js';
import { createApp } from '../support/app.js';
import { backends, notTested } from '../support/backends.js';
import { Recorder } from '../support/recorder.js';

const steps: Record<string, { variable: string; mail: string; load: () => Promise<{ AppModule: Type }> }> = {
  Redis: {
    variable: 'REDIS_URL',
    mail: 'Sent a mail to ada@example.com',
    load: () => import('../../sample/13-engine/redis.module.js'),
  },
  Postgres: {
    variable: 'DATABASE_URL',
    mail: 'Sent a mail to ada@example.com, at attempt 1',
    load: () => import('../../sample/13-engine/postgres.module.js'),
  },
};

describe.each(backends)('the first steps of docs/engine.md on $name', (backend) => {
  const { variable, mail, load } = steps[backend.name]!;
  const before = process.env[variable];

  afterEach(() => {
    if (before === undefined) delete process.env[variable];
    else process.env[variable] = before;
  });

  it('name queues', async () => {
    const server = await backend.start();
    @Module({
      imports: [BackgroundTasksModule.forRoot({ engine: engine(backend.settings(server.url)) })],
      providers: [ThumbnailTasks],
    })
    class AppModule {}
    const { app, runner, logs } = await createApp('Express', AppModule);
    try {
      const lines = new Recorder<unknown>();
      jest.spyOn(logs, 'log').mockImplementation((line) => lines.add(line));
      await runner.within((tasks) => void tasks.addTask(ThumbnailTasks.prototype.makeThumbnail, 'cat.png'));
      await lines.containing('Made a thumbnail of cat.png');
    } finally {
      await app.close();
      await server.remove();
    }
  });

  it('index a document once, with its last text, when it has not changed for a while', async () => {
    const server = await backend.start();
    @Module({
      imports: [BackgroundTasksModule.forRoot({ engine: engine(backend.settings(server.url)) })],
      providers: [SearchTasks],
    })
    class AppModule {}
    const { app, runner, logs } = await createApp('Express', AppModule);
    try {
      const lines = new Recorder<unknown>();
      jest.spyOn(logs, 'log').mockImplementation((line) => lines.add(line));
      const change = (id: string, text: string) =>
        runner.within((tasks) => void tasks.addTask(SearchTasks.prototype.indexDocument, id, text));
      await change('plan', 'first');
      await change('plan', 'second');
      await change('plan', 'third');
      await change('other', 'first');
      await lines.containing('Indexed other: first');
      expect(lines.all.filter((line) => String(line).startsWith('Indexed'))).toEqual(['Indexed plan: third', 'Indexed other: first']);
    } finally {
      await app.close();
      await server.remove();
    }
  });

  it('answer, and then send the mail', async () => {
    const server = await backend.start();
    process.env[variable] = server.url;
    const { app, http, logs } = await createApp('Express', (await load()).AppModule);
    try {
      const lines = new Recorder<unknown>();
      jest.spyOn(logs, 'log').mockImplementation((line) => lines.add(line));
      await http.post('/users/ada@example.com').expect(201, { message: 'Welcome! A mail is on its way.' });
      await lines.containing(mail);
      expect(logs.lines.filter(({ level }) => level === 'error')).toEqual([]);
    } finally {
      await app.close();
      await server.remove();
    }
  });
});

if (notTested(backends).length > 0) it.skip.each(notTested(backends))('%s', () => undefined);
