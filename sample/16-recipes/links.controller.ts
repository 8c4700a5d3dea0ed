import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import { BackgroundTasks, currentTask } from 'nestjs-background-tasks';
import { Work } from './work.js';

@Controller('links')
export class LinksController {
  constructor(private readonly work: Work) {}

  @Post()
  @HttpCode(202)
  check(@Body('links') links: string[], @BackgroundTasks() tasks: BackgroundTasks): void {
    tasks.addTask({ name: 'check links', timeout: 30_000 }, () => {
      const signal = currentTask()?.signal;
      return Promise.all(links.map((link) => this.work.do(link, signal)));
    });
  }
}
