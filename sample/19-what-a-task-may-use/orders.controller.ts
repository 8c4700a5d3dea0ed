import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Journal } from './journal.js';

interface Order {
  article: string;
  state?: string;
}

@Controller('orders')
export class OrdersController {
  constructor(private readonly journal: Journal) {}

  @Post()
  @HttpCode(202)
  place(@Body() order: Order, @BackgroundTasks() tasks: BackgroundTasks): void {
    order.state = 'received';
    tasks.addTask((copy) => this.journal.write(copy.article, copy.state!), structuredClone(order));
    order.state = 'placed';
    tasks.addTask((same) => this.journal.write(same.article, same.state!), order);
    order.state = 'answered';
  }
}
