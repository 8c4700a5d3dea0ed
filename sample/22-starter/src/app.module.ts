import { setTimeout } from 'node:timers/promises';
import { Controller, Injectable, Logger, Module, Param, Post, Scope } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';

@Injectable()
class Mail {
  private readonly logger = new Logger(Mail.name);

  async welcome(address: string): Promise<void> {
    await setTimeout(1_000);
    this.logger.log(`Welcome, ${address}`);
  }
}

@Controller('sign-ups')
class SignUpsController {
  constructor(
    private readonly mail: Mail,
    private readonly tasks: BackgroundTasks,
  ) {}

  @Post(':address')
  signUp(@Param('address') address: string) {
    this.tasks.addTask({ name: 'welcome mail' }, (to) => this.mail.welcome(to), address);
    return { message: 'Welcome! A mail is on its way.' };
  }
}

@Module({
  imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT })],
  controllers: [SignUpsController],
  providers: [Mail],
})
export class AppModule {}
