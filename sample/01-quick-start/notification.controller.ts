import { setTimeout } from 'node:timers/promises';
import { Controller, Param, Post, Query } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { writeLog } from './log.js';
import { QueryLog } from './query-log.js';

@Controller()
export class NotificationController {
  constructor(private readonly queryLog: QueryLog) {}

  @Post('send-notification/:email')
  sendNotification(@Param('email') email: string, @Query('q') query: string | undefined, @BackgroundTasks() tasks: BackgroundTasks) {
    if (query) this.queryLog.found(query);
    tasks.addTask(writeLog, `message to ${email}\n`);
    return { message: 'Message sent' };
  }

  @Post('send-newsletter/:email')
  sendNewsletter(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(sendSlowly, email);
    return { message: 'Newsletter on its way' };
  }
}

async function sendSlowly(email: string): Promise<void> {
  await setTimeout(500);
  await writeLog(`newsletter to ${email}\n`);
}
