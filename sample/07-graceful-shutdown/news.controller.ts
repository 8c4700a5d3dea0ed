import { Controller, Get, type MessageEvent, Sse } from '@nestjs/common';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import { type Observable, Subject, firstValueFrom, fromEvent, map, race, takeUntil } from 'rxjs';

@Controller('news')
export class NewsController {
  private readonly news = new Subject<string>();

  constructor(private readonly runner: BackgroundTasksRunner) {}

  // This event stream ends when the shutdown begins.
  @Sse('stream')
  stream(): Observable<MessageEvent> {
    return this.news.pipe(
      map((data) => ({ data })),
      takeUntil(fromEvent(this.runner.closing, 'abort')),
    );
  }

  // So does this long poll: its client asks the next instance.
  @Get('next')
  async next(): Promise<{ news?: string }> {
    const closing = fromEvent(this.runner.closing, 'abort').pipe(map(() => ({})));
    return firstValueFrom(race(this.news.pipe(map((news) => ({ news }))), closing));
  }
}
