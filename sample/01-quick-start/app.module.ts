import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { NotificationController } from './notification.controller.js';
import { QueryLog } from './query-log.js';

@Module({
  imports: [BackgroundTasksModule],
  controllers: [NotificationController],
  providers: [QueryLog],
})
export class AppModule {}
