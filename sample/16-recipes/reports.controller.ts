import { Controller, Delete, Get, HttpCode, NotFoundException, Param, Post } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksRunner, currentTask } from 'nestjs-background-tasks';
import { Work } from './work.js';

@Controller('reports')
export class ReportsController {
  constructor(
    private readonly work: Work,
    private readonly runner: BackgroundTasksRunner,
  ) {}

  @Post()
  @HttpCode(202)
  create(@BackgroundTasks() tasks: BackgroundTasks) {
    const task = tasks.addTask(() => this.work.do('report', currentTask()?.signal));
    return { id: task.id };
  }

  @Get(':id')
  async state(@Param('id') id: string) {
    const task = await this.runner.state(id);
    if (!task) throw new NotFoundException();
    return { state: task.state };
  }

  @Get(':id/end')
  async end(@Param('id') id: string) {
    await this.runner.find(id)?.ended;
    return this.state(id);
  }

  @Delete(':id')
  @HttpCode(204)
  cancel(@Param('id') id: string): void {
    if (!this.runner.find(id)?.cancel('the user asked for it')) throw new NotFoundException();
  }
}
