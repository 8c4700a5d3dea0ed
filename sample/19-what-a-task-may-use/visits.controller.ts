import { Controller, Headers, HttpCode, Ip, Post } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Journal } from './journal.js';

@Controller('visits')
export class VisitsController {
  constructor(private readonly journal: Journal) {}

  @Post()
  @HttpCode(202)
  visit(@Ip() ip: string, @Headers('user-agent') browser: string, @BackgroundTasks() tasks: BackgroundTasks): void {
    tasks.addTask((...visit) => this.journal.write('visit', ...visit), ip, browser);
  }
}
