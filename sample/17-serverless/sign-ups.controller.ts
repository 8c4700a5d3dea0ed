import { setTimeout } from 'node:timers/promises';
import { Body, Controller, Post } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';

async function sendWelcome(email: string): Promise<void> {
  await setTimeout(100);
  console.log(`Welcomed ${email}`);
}

@Controller('sign-ups')
export class SignUpsController {
  @Post()
  signUp(@Body('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(sendWelcome, email);
    return { email };
  }
}
