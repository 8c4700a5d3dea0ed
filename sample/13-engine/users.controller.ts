import { Controller, Param, Post } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { MailTasks } from './mail.tasks.js';

@Controller('users')
export class UsersController {
  constructor(private readonly mail: MailTasks) {}

  @Post(':email')
  signUp(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.mail.sendWelcomeMail, email);
    return { message: 'Welcome! A mail is on its way.' };
  }
}
