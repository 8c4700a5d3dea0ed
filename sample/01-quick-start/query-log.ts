import { Injectable } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { writeLog } from './log.js';

// Nest creates one for each request, because it injects the list of the request.
@Injectable()
export class QueryLog {
  constructor(private readonly tasks: BackgroundTasks) {}

  found(query: string): void {
    this.tasks.addTask(writeLog, `found query: ${query}\n`);
  }
}
