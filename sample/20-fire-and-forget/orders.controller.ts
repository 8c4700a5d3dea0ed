import { Controller, Param, Post } from '@nestjs/common';
import { EventEmitter2 } from '@nestjs/event-emitter';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Mail } from './work.js';

@Controller('orders')
export class OrdersController {
  constructor(
    private readonly mail: Mail,
    private readonly events: EventEmitter2,
  ) {}

  @Post(':to')
  place(@Param('to') to: string, @BackgroundTasks() tasks: BackgroundTasks) {
    for (const address of ['stock@example.com', 'boss@example.com', 'billing@example.com']) {
      tasks.addTask({ name: 'tell of order', parallel: true }, (text) => this.mail.send(address, text), `order of ${to}`);
    }
    this.events.emit('order.placed', to);
    return { message: 'Order placed' };
  }
}
