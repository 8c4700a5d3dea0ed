import { setTimeout } from 'node:timers/promises';
import { Controller, Get, Module, Param } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { Piscina } from 'piscina';
import { BareController } from './bare.js';
import burn from './burn.js';
import { answer } from './task.js';

/** How long the processor is kept busy by a task of `Burning`. */
const BURN_MILLISECONDS = 50;

function withTask(task: () => unknown) {
  @Controller()
  class TaskController {
    @Get('notify/:email')
    notify(@Param('email') _email: string, @BackgroundTasks() tasks: BackgroundTasks) {
      tasks.addTask(task);
      return answer();
    }
  }

  @Module({ imports: [BackgroundTasksModule], controllers: [TaskController] })
  class TaskModule {}

  return TaskModule;
}

export const Waiting0 = withTask(() => {});
export const Waiting10 = withTask(() => setTimeout(10));
export const Waiting1000 = withTask(() => setTimeout(1000));

let piscina: Piscina | undefined;

@Controller('burn')
class BurnController {
  @Get('thread')
  inThread(@BackgroundTasks() tasks: BackgroundTasks): void {
    piscina ??= new Piscina({ filename: new URL('burn.js', import.meta.url).href, maxThreads: 1 });
    const threads = piscina;
    tasks.addTask(() => threads.run(BURN_MILLISECONDS));
  }

  @Get('event-loop')
  onEventLoop(@BackgroundTasks() tasks: BackgroundTasks): void {
    tasks.addTask(burn, BURN_MILLISECONDS);
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [BareController, BurnController] })
export class Burning {}
