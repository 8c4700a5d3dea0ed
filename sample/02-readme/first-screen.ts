import { Controller, Module, Param, Post } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { writeNotification } from './notifications.js';

@Controller()
export class NotificationController {
  @Post('send-notification/:email')
  send(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(writeNotification, email, 'some notification');
    return { message: 'Notification sent in the background' };
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [NotificationController] })
export class AppModule {}
