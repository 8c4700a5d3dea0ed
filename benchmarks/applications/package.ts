import { Controller, Get, Module, Param } from '@nestjs/common';
import { BackgroundTasks, type BackgroundTasksEngine, BackgroundTasksModule } from 'nestjs-background-tasks';
import { BareController } from './bare.js';
import { answer, sendNotification, sendNotificationAsync } from './task.js';

@Controller('other')
class OtherController {
  @Get(':email')
  notify(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(sendNotification, email);
    return answer();
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [BareController, OtherController] })
export class OnAnotherRoute {}

@Controller()
class NoTaskController {
  @Get('notify/:email')
  notify(@Param('email') _email: string, @BackgroundTasks() _tasks: BackgroundTasks) {
    return answer();
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [NoTaskController] })
export class ParameterNoTask {}

@Controller()
export class ParameterController {
  @Get('notify/:email')
  notify(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(sendNotification, email);
    return answer();
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [ParameterController] })
export class Parameter {}

/** Is never handed a task. */
const engine: BackgroundTasksEngine = {
  enqueue: () => Promise.reject(new Error('There is no task for the engine')),
  work: () => undefined,
  close: () => Promise.resolve(),
};

@Module({ imports: [BackgroundTasksModule.forRoot({ engine })], controllers: [ParameterController] })
export class ParameterBesideEngine {}

@Controller()
class ParameterAsyncController {
  @Get('notify/:email')
  notify(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(sendNotificationAsync, email);
    return answer();
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [ParameterAsyncController] })
export class ParameterAsyncTask {}

@Controller()
class InjectedController {
  constructor(private readonly tasks: BackgroundTasks) {}

  @Get('notify/:email')
  notify(@Param('email') email: string) {
    this.tasks.addTask(sendNotification, email);
    return answer();
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [InjectedController] })
export class Injected {}
