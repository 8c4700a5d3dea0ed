import {
  Controller,
  Get,
  Header,
  HttpCode,
  type MessageEvent,
  NotFoundException,
  Param,
  Post,
  Sse,
  UploadedFile,
  UseInterceptors,
} from '@nestjs/common';
import { FileInterceptor } from '@nestjs/platform-express';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { type Observable, map } from 'rxjs';
import { Imports } from './imports.js';
import { page } from './page.js';

@Controller()
export class ImportsController {
  constructor(private readonly imports: Imports) {}

  @Get()
  @Header('Content-Type', 'text/html; charset=utf-8')
  page(): string {
    return page;
  }

  @Post('imports')
  @HttpCode(202)
  @UseInterceptors(FileInterceptor('contacts'))
  upload(@UploadedFile() file: { buffer: Buffer }, @BackgroundTasks() tasks: BackgroundTasks) {
    const lines = file.buffer.toString('utf8').split('\n').filter(Boolean);
    const id = this.imports.create(lines.length);
    tasks.addTask({ name: 'import contacts' }, () => this.imports.run(id, lines));
    return { id, progress: `/imports/${id}/progress` };
  }

  @Sse('imports/:id/progress')
  progress(@Param('id') id: string): Observable<MessageEvent> {
    const progress = this.imports.progress(id);
    if (!progress) throw new NotFoundException(`There is no import ${id}`);
    return progress.pipe(map((data) => ({ data })));
  }
}
