import { Controller, Delete, Get, HttpCode, NotFoundException, Param, Post } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksRunner, type TaskEnd, currentTask } from 'nestjs-background-tasks';
import { Work } from './work.js';

@Controller('reports')
export class ReportsController {
  readonly #ends = new Map<string, TaskEnd>();

  constructor(
    private readonly work: Work,
    private readonly runner: BackgroundTasksRunner,
  ) {}

  @Post()
  @HttpCode(202)
  create(@BackgroundTasks() tasks: BackgroundTasks) {
    const task = tasks.addTask(() => this.work.do('report', currentTask()?.signal));
    void task.ended.then((end) => this.#ends.set(task.id, end));
    return { id: task.id };
  }

  @Get(':id')
  state(@Param('id') id: string) {
    const state = this.runner.find(id) ? 'running' : this.#ends.get(id);
    if (!state) throw new NotFoundException();
    return { state };
  }

  @Get(':id/end')
  async end(@Param('id') id: string) {
    const end = (await this.runner.find(id)?.ended) ?? this.#ends.get(id);
    if (!end) throw new NotFoundException();
    return { state: end };
  }

  @Delete(':id')
  @HttpCode(204)
  cancel(@Param('id') id: string): void {
    if (!this.runner.find(id)?.cancel('the user asked for it')) throw new NotFoundException();
  }
}
