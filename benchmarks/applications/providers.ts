import { Controller, Get, Inject, Module, Param, type Provider, type Scope } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { answer, sendNotification } from './task.js';

interface Notifier {
  notify(email: string): void;
}

/** Providers that inject the list, each called by the one before it; the last one adds a task. */
function chainOf(length: number): Provider[] {
  return Array.from({ length }, (_, place) => ({
    provide: `Notifier${place}`,
    inject: place === length - 1 ? [BackgroundTasks] : [BackgroundTasks, `Notifier${place + 1}`],
    useFactory: (tasks: BackgroundTasks, next?: Notifier): Notifier => ({
      notify(email) {
        if (next) next.notify(email);
        else tasks.addTask(sendNotification, email);
      },
    }),
  }));
}

@Controller()
class NotifierController {
  constructor(@Inject('Notifier0') private readonly notifier: Notifier) {}

  @Get('notify/:email')
  notify(@Param('email') email: string) {
    this.notifier.notify(email);
    return answer();
  }
}

/** An application whose controller reaches the list through that many providers. */
export function throughProviders(length: number, scope: Scope.REQUEST | Scope.DEFAULT) {
  @Module({
    imports: [BackgroundTasksModule.forRoot({ scope })],
    controllers: [NotifierController],
    providers: chainOf(length),
  })
  class ProvidersModule {}

  return ProvidersModule;
}
