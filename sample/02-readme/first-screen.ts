import { setTimeout } from 'node:timers/promises';
import { Controller, Get, Logger, Module, Param, Post } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';

async function writeNotification(email: string, message: string) {
  await setTimeout(1_000);
  new Logger('Notifications').log(`${message} for ${email}`);
}

@Controller()
class NotificationController {
  // The tests of `nest new` expect this route.
  @Get()
  hello() {
    return 'Hello World!';
  }

  @Post('send-notification/:email')
  send(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(writeNotification, email, 'some notification');
    return { message: 'Notification sent in the background' };
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [NotificationController] })
export class AppModule {}
