import { Controller, Injectable, Logger, Module, Param, Post } from '@nestjs/common';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';

@Injectable()
class MailTasks {
  @BackgroundTask('welcome-mail', { attempts: 5, backoff: { type: 'exponential', delay: 1_000 } })
  async sendWelcomeMail(address: string): Promise<void> {
    new Logger('MailTasks').log(`Sent a mail to ${address}`);
  }
}

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
  imports: [BackgroundTasksModule.forRoot({ engine: bullmqEngine({ connection: process.env.REDIS_URL ?? 'redis://localhost:6379' }) })],
  controllers: [UsersController],
  providers: [MailTasks],
})
export class AppModule {}
