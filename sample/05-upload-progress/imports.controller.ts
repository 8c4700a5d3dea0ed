import { Body, Controller, Delete, Get, Header, HttpCode, type MessageEvent, NotFoundException, Param, Post, Sse } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksRunner } from 'nestjs-background-tasks';
import { type Observable, map } from 'rxjs';
import { Imports } from './imports.js';
import { page } from './page.js';

@Controller()
export class ImportsController {
  constructor(
    private readonly imports: Imports,
    private readonly runner: BackgroundTasksRunner,
  ) {}

  @Get()
  @Header('Content-Type', 'text/html; charset=utf-8')
  page(): string {
    return page;
  }

  @Post('imports')
  @HttpCode(202)
  upload(@Body('contacts') contacts: string[], @BackgroundTasks() tasks: BackgroundTasks) {
    const id = this.imports.start(contacts, tasks);
    return { id, progress: `/imports/${id}/progress` };
  }

  @Sse('imports/:id/progress')
  progress(@Param('id') id: string): Observable<MessageEvent> {
    const progress = this.imports.progress(id);
    if (!progress) throw new NotFoundException(`There is no import ${id}`);
    return progress.pipe(map((data) => ({ data })));
  }

  @Delete('imports/:id')
  @HttpCode(204)
  cancel(@Param('id') id: string): void {
    if (!this.runner.find(id)?.cancel('the user asked for it')) throw new NotFoundException(`There is no import ${id}, or it is over`);
  }
}
