import { setTimeout } from 'node:timers/promises';
import { type CallHandler, Controller, Get, Injectable, Module, type NestInterceptor, Param, Scope, UseInterceptors } from '@nestjs/common';
import { APP_INTERCEPTOR, REQUEST } from '@nestjs/core';
import { EventEmitter2, EventEmitterModule, OnEvent } from '@nestjs/event-emitter';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { ClsModule } from 'nestjs-cls';
import { Piscina } from 'piscina';
import type { Observable } from 'rxjs';
import burn from './burn.js';
import { CarefulInterceptor, CarefulTasks, Tasks, carefulTasksOf } from './careful.js';
import { hold, sendNotification, sendNotificationAsync } from './task.js';

// Every application answers GET /notify/:email with the same object. They differ in how the notification is sent, if it is.

/** How long the processor is kept busy by a task of `Burning`. */
const BURN_MILLISECONDS = 50;

const answer = (): { message: string } => ({ message: 'Notification sent in the background' });

@Controller()
class BareController {
  @Get('notify/:email')
  notify(@Param('email') _email: string) {
    return answer();
  }
}

@Module({ controllers: [BareController] })
export class Bare {}

@Injectable()
class NoOpInterceptor implements NestInterceptor {
  intercept(_context: unknown, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

@Module({ controllers: [BareController], providers: [{ provide: APP_INTERCEPTOR, useClass: NoOpInterceptor }] })
export class NoOpGlobalInterceptor {}

@Module({ imports: [ClsModule.forRoot({ global: true, middleware: { mount: true } })], controllers: [BareController] })
export class ClsMounted {}

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

@Injectable()
class Listener {
  @OnEvent('notification', { async: true })
  onNotification(email: string): void {
    sendNotification(email);
  }
}

@Controller()
class EventController {
  constructor(private readonly events: EventEmitter2) {}

  @Get('notify/:email')
  notify(@Param('email') email: string) {
    this.events.emit('notification', email);
    return answer();
  }
}

@Module({ imports: [EventEmitterModule.forRoot()], controllers: [EventController], providers: [Listener] })
export class EventEmitter {}

@Controller()
@UseInterceptors(CarefulInterceptor)
class CarefulController {
  @Get('notify/:email')
  notify(@Param('email') email: string, @Tasks() tasks: CarefulTasks) {
    tasks.add(sendNotification, email);
    return answer();
  }
}

@Module({ controllers: [CarefulController] })
export class CarefulByHand {}

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
class ParameterController {
  @Get('notify/:email')
  notify(@Param('email') email: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(sendNotification, email);
    return answer();
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [ParameterController] })
export class Parameter {}

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

// For memory.ts and scale.ts: requests that stay in flight.

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

// For latency.ts: tasks that take their time.

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
