import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { Mailer, OrdersController } from './adding-tasks.js';

export const metrics = {
  failed: [] as string[],
  count(_name: string, { task }: { task: string; error: unknown }): void {
    this.failed.push(task);
  },
};

@Module({
  imports: [
    BackgroundTasksModule.forRoot({
      concurrency: 100,
      maxPending: 10_000,
      timeout: 60_000,
      onError: (error, task) => metrics.count('background_task_failed', { task: task.name, error }),
    }),
  ],
  controllers: [OrdersController],
  providers: [Mailer],
})
export class AppModule {}
