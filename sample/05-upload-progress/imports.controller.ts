import {
  Body,
  Controller,
  Delete,
  Get,
  Header,
  HttpCode,
  type MessageEvent,
  NotFoundException,
  Param,
  Post,
  Res,
  Sse,
} from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksRunner, type TaskState } from 'nestjs-background-tasks';
import { type Observable, concatMap, distinctUntilChanged, filter, map, takeWhile, timer } from 'rxjs';
import { Imports } from './imports.js';
import { page } from './page.js';

/** Time between two checks of the state of an import, in ms. */
const LOOK_MS = 50;

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
  upload(
    @Body('contacts') contacts: string[],
    @BackgroundTasks() tasks: BackgroundTasks,
    // Express and Fastify have this method.
    @Res({ passthrough: true }) response: { header(name: string, value: string): unknown },
  ) {
    const { id } = tasks.addTask(this.imports.run, contacts);
    response.header('Location', `/imports/${id}`);
    return { id, progress: `/imports/${id}/progress` };
  }

  @Get('imports/:id')
  async state(@Param('id') id: string): Promise<TaskState> {
    const state = await this.runner.state(id);
    if (!state) throw new NotFoundException(`There is no import ${id}`);
    return state;
  }

  @Sse('imports/:id/progress')
  async progress(@Param('id') id: string): Promise<Observable<MessageEvent>> {
    await this.state(id);
    return timer(0, LOOK_MS).pipe(
      concatMap(() => this.runner.state(id)),
      filter((state) => state !== undefined),
      distinctUntilChanged((one, other) => JSON.stringify(one) === JSON.stringify(other)),
      takeWhile(({ state }) => state === 'waiting' || state === 'running', true),
      map(({ progress, state, failure }) => ({ data: { ...(progress as object | undefined), state, failure } })),
    );
  }

  /** This process cannot cancel an import that a worker has. */
  @Delete('imports/:id')
  @HttpCode(204)
  cancel(@Param('id') id: string): void {
    if (!this.runner.find(id)?.cancel('the user asked for it')) throw new NotFoundException(`No import ${id} waits or runs here`);
  }
}
