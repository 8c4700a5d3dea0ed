import { Controller, Get, Module, Param, UseInterceptors } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { BareController } from './bare.js';
import { CarefulController } from './by-hand.js';
import { CarefulInterceptor, CarefulTasks, Tasks } from './careful.js';
import { ParameterController } from './package.js';
import { hold, sendNotification } from './task.js';

// Requests that stay in flight.

@Controller('held')
class HeldController {
  @Get(':email')
  hold(@Param('email') _email: string) {
    return hold();
  }
}

@Module({ controllers: [BareController, HeldController] })
export class BareHeld {}

@Controller('held')
@UseInterceptors(CarefulInterceptor)
class CarefulHeldController {
  @Get(':email')
  hold(@Param('email') email: string, @Tasks() tasks: CarefulTasks) {
    tasks.add(sendNotification, email);
    return hold();
  }
}

@Module({ controllers: [CarefulController, CarefulHeldController] })
export class CarefulHeld {}

@Controller('held')
class ParameterHeldController {
  @Get(':email')
  hold(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(sendNotification, email);
    return hold();
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [ParameterController, ParameterHeldController] })
export class ParameterHeld {}
