import { Controller, Get, Injectable, Module, Param } from '@nestjs/common';
import { EventEmitter2, EventEmitterModule, OnEvent } from '@nestjs/event-emitter';
import { answer, sendNotification } from './task.js';

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
