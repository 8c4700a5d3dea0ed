import { Controller, Get, Injectable, Module, Param, Scope, UseInterceptors } from '@nestjs/common';
import { APP_INTERCEPTOR, REQUEST } from '@nestjs/core';
import { NoOpInterceptor } from './bare.js';
import { CarefulInterceptor, CarefulTasks, Tasks, carefulTasksOf } from './careful.js';
import { answer, sendNotification } from './task.js';

@Controller()
class SetImmediateController {
  @Get('notify/:email')
  notify(@Param('email') email: string) {
    setImmediate(sendNotification, email);
    return answer();
  }
}

@Module({ controllers: [SetImmediateController] })
export class SetImmediateByHand {}

@Controller()
@UseInterceptors(CarefulInterceptor)
export class CarefulController {
  @Get('notify/:email')
  notify(@Param('email') email: string, @Tasks() tasks: CarefulTasks) {
    tasks.add(sendNotification, email);
    return answer();
  }
}

@Module({ controllers: [CarefulController] })
export class CarefulByHand {}

@Injectable()
class PlainRunner {
  run(func: (email: string) => void, email: string): void {
    setImmediate(func, email);
  }
}

class PlainTasks {
  constructor(private readonly runner: PlainRunner) {}

  add(func: (email: string) => void, email: string): void {
    this.runner.run(func, email);
  }
}

@Controller()
class PlainRequestScopedController {
  constructor(private readonly tasks: PlainTasks) {}

  @Get('notify/:email')
  notify(@Param('email') email: string) {
    this.tasks.add(sendNotification, email);
    return answer();
  }
}

/** The provider has the shape of `BackgroundTasks`: a factory that takes the request and a singleton. */
@Module({
  controllers: [PlainRequestScopedController],
  providers: [
    PlainRunner,
    {
      provide: PlainTasks,
      scope: Scope.REQUEST,
      inject: [REQUEST, PlainRunner],
      useFactory: (_request: object, runner: PlainRunner) => new PlainTasks(runner),
    },
  ],
})
export class PlainRequestScoped {}

@Module({ imports: [PlainRequestScoped], providers: [{ provide: APP_INTERCEPTOR, useClass: NoOpInterceptor }] })
export class PlainRequestScopedIntercepted {}

@Controller()
@UseInterceptors(CarefulInterceptor)
class CarefulRequestScopedController {
  constructor(private readonly tasks: CarefulTasks) {}

  @Get('notify/:email')
  notify(@Param('email') email: string) {
    this.tasks.add(sendNotification, email);
    return answer();
  }
}

@Module({
  controllers: [CarefulRequestScopedController],
  providers: [{ provide: CarefulTasks, scope: Scope.REQUEST, inject: [REQUEST], useFactory: carefulTasksOf }],
})
export class CarefulRequestScoped {}
