import { Controller, HttpCode, HttpException, Injectable, Param, Post } from '@nestjs/common';
import { type BackgroundTask, BackgroundTasks } from 'nestjs-background-tasks';
import { Work } from './work.js';

const MOST_PER_USER = 2;

/** The number of unfinished exports of each user. */
@Injectable()
export class UserLimit {
  readonly #open = new Map<string, number>();

  check(user: string): void {
    if ((this.#open.get(user) ?? 0) >= MOST_PER_USER) throw new HttpException('Wait for your exports to end', 429);
  }

  count(user: string, task: BackgroundTask): void {
    this.#add(user, 1);
    // In every case: a task may be discarded or cancelled before it starts.
    void task.ended.then(() => this.#add(user, -1));
  }

  #add(user: string, change: number): void {
    const open = (this.#open.get(user) ?? 0) + change;
    if (open > 0) this.#open.set(user, open);
    else this.#open.delete(user);
  }
}

@Controller('users/:user/exports')
export class ExportsController {
  constructor(
    private readonly limit: UserLimit,
    private readonly work: Work,
  ) {}

  @Post()
  @HttpCode(202)
  create(@Param('user') user: string, @BackgroundTasks() tasks: BackgroundTasks) {
    this.limit.check(user);
    const task = tasks.addTask(() => this.work.do('export'));
    this.limit.count(user, task);
    return { id: task.id };
  }
}
