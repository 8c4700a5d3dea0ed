import { setTimeout } from 'node:timers/promises';
import { Body, Controller, Injectable, Module, Post } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';

@Injectable()
export class Mailer {
  readonly sent: string[] = [];

  async welcome(email: string): Promise<void> {
    await setTimeout(100);
    this.sent.push(email);
  }
}

@Injectable()
export class Statistics {
  signUps = 0;
}

@Injectable()
export class SignUpService {
  constructor(
    private readonly tasks: BackgroundTasks,
    private readonly statistics: Statistics,
  ) {}

  signUp(email: string): { email: string } {
    this.tasks.addTask({ name: 'count' }, () => void this.statistics.signUps++);
    return { email };
  }
}

@Controller('sign-ups')
export class SignUpController {
  constructor(
    private readonly service: SignUpService,
    private readonly mailer: Mailer,
  ) {}

  @Post()
  signUp(@Body('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    const { id } = tasks.addTask({ name: 'welcome' }, (to) => this.mailer.welcome(to), email);
    return { ...this.service.signUp(email), welcome: id };
  }
}

@Module({
  imports: [BackgroundTasksModule],
  controllers: [SignUpController],
  providers: [Mailer, SignUpService, Statistics],
})
export class AppModule {}
