import { type INestApplicationContext, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';

/** The package without requests: lists that are resolved outside any request run from the next tick on. */
export class Lists {
  private constructor(private readonly app: INestApplicationContext) {}

  static async open(concurrency?: number): Promise<Lists> {
    @Module({ imports: [BackgroundTasksModule.forRoot({ concurrency })] })
    class AppModule {}
    return new Lists(await NestFactory.createApplicationContext(AppModule, { logger: ['warn', 'error'] }));
  }

  async make(count: number): Promise<BackgroundTasks[]> {
    const lists: BackgroundTasks[] = [];
    for (let made = 0; made < count; made += 1) lists.push(await this.app.resolve(BackgroundTasks));
    return lists;
  }

  onIdle(): Promise<void> {
    return this.app.get(BackgroundTasksRunner).onIdle();
  }
}
