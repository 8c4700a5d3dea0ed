// Guarantee 8: a shutdown ends event streams and waits for their tasks, before providers disconnect their databases.
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { describe, expect, it } from '@jest/globals';
import { Controller, Injectable, type MessageEvent, Module, type OnModuleDestroy, Sse } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { BehaviorSubject, type Observable } from 'rxjs';
import { createApp, platforms } from '../support/app.js';

describe.each(platforms)('app.close() on %s', (platform) => {
  const ran: string[] = [];

  @Injectable()
  class News implements OnModuleDestroy {
    readonly events = new BehaviorSubject<MessageEvent>({ data: 'first' });

    onModuleDestroy() {
      this.events.complete();
    }
  }

  @Controller()
  class NewsController {
    constructor(private readonly news: News) {}

    @Sse('news')
    read(): Observable<MessageEvent> {
      return this.news.events;
    }

    @Sse('counted')
    count(@BackgroundTasks() tasks: BackgroundTasks): Observable<MessageEvent> {
      this.news.events.subscribe({ complete: () => tasks.addTask(() => ran.push('read to the end')) });
      return this.news.events;
    }
  }

  // Were an open stream waited for, the test would run out of time.
  @Module({ imports: [BackgroundTasksModule.forRoot({ shutdownTimeout: 600_000 })], controllers: [NewsController], providers: [News] })
  class NewsModule {}

  it.each([
    ['is not held up by an event stream, which the application ends as it shuts down', 'news', []],
    ['still runs the tasks that such a stream adds at its end', 'counted', ['read to the end']],
  ])('%s', async (_, path, tasks) => {
    ran.length = 0;
    const { app, url } = await createApp(platform, NewsModule);
    const request = get(`${url}/${path}`, { agent: false });
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    await once(response, 'data');
    const ended = once(response, 'end');
    await Promise.all([app.close(), ended]);
    expect(ran).toEqual(tasks);
  });
});
