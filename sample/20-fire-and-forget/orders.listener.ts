import { Injectable } from '@nestjs/common';
import { OnEvent } from '@nestjs/event-emitter';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Mail } from './work.js';

@Injectable()
export class OrdersListener {
  constructor(
    private readonly tasks: BackgroundTasks,
    private readonly mail: Mail,
  ) {}

  @OnEvent('order.placed')
  placed(to: string): void {
    this.tasks.addTask({ name: 'confirm order' }, (address) => this.mail.send(address, 'your order'), to);
  }
}
