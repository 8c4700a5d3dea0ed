import { Controller, Module, Param, Post } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { engine } from './engine.js';
import { MailTasks } from './mail.tasks.js';

@Controller('users')
class UsersController {
  constructor(private readonly mail: MailTasks) {}

  @Post(':email')
  signUp(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(this.mail.sendWelcomeMail, email);
    return { message: 'Welcome! A mail is on its way.' };
  }
}

@Module({
  imports: [BackgroundTasksModule.forRoot({ engine: engine(false) })],
  controllers: [UsersController],
  providers: [MailTasks],
})
export class ApiModule {}
