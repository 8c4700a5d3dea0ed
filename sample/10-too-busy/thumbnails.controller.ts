import { Controller, HttpCode, Param, Post } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksOverflowError } from 'nestjs-background-tasks';
import { Thumbnails } from './thumbnails.js';

@Controller()
export class ThumbnailsController {
  constructor(private readonly thumbnails: Thumbnails) {}

  /** Beyond `maxPending`, the client has to try again: the error of `addTask()` answers 503, with Retry-After. */
  @Post('uploads/:image')
  @HttpCode(202)
  upload(@Param('image') image: string, @BackgroundTasks() tasks: BackgroundTasks): void {
    tasks.addTask({ name: 'thumbnail' }, (name: string) => this.thumbnails.make(name), image);
  }

  /** Beyond `maxPending`, this route continues without the task. */
  @Post('views/:image')
  view(@Param('image') image: string, @BackgroundTasks() tasks: BackgroundTasks) {
    try {
      tasks.addTask({ name: 'refresh thumbnail' }, (name: string) => this.thumbnails.make(name), image);
      return { refreshed: true };
    } catch (error) {
      if (!(error instanceof BackgroundTasksOverflowError)) throw error;
      return { refreshed: false };
    }
  }
}
