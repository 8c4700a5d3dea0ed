import { Injectable } from '@nestjs/common';
import { OnEvent } from '@nestjs/event-emitter';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { MailTasks } from './mail.tasks.js';

@Injectable()
export class OrdersListener {
  constructor(
    private readonly tasks: BackgroundTasks,
    private readonly mail: MailTasks,
  ) {}

  @OnEvent('order.placed')
  placed(id: string): void {
    this.tasks.addTask(this.mail.send, id);
  }
}
