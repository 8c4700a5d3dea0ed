import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { ErrorTracker } from './error-tracker.js';
import { Thumbnails } from './thumbnails.js';
import { ThumbnailsController } from './thumbnails.controller.js';

@Module({ providers: [ErrorTracker], exports: [ErrorTracker] })
export class ErrorTrackerModule {}

@Module({
  imports: [
    BackgroundTasksModule.forRootAsync({
      imports: [ErrorTrackerModule],
      inject: [ErrorTracker],
      useFactory: (tracker: ErrorTracker) => ({
        concurrency: 1,
        maxPending: 2,
        onError: (error, task) => tracker.report(error, { task: task.name }),
      }),
    }),
  ],
  controllers: [ThumbnailsController],
  providers: [Thumbnails],
})
export class AppModule {}
