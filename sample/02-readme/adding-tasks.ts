import { BadRequestException, Body, Controller, Injectable, Param, Post } from '@nestjs/common';
import { BackgroundTask, BackgroundTasks } from 'nestjs-background-tasks';
import { reindex } from './current-task.js';

@Injectable()
export class Mailer {
  readonly sent: string[] = [];

  send(to: string, message: string): void {
    this.sent.push(`${to}: ${message}`);
  }

  @BackgroundTask()
  sendInvoice(to: string): void {
    this.send(to, 'your invoice');
  }
}

@Controller('orders')
export class OrdersController {
  constructor(private readonly mailer: Mailer) {}

  @Post(':id')
  create(@Param('id') id: string, @Body() order: { email: string }, @BackgroundTasks() tasks: BackgroundTasks) {
    // A function and its arguments.
    tasks.addTask(reindex, id);
    // Wrap a method in a closure, and pass its values as arguments.
    tasks.addTask((to) => this.mailer.send(to, 'order received'), order.email);
    // Options come first, as in Node's own `test(options, fn)`.
    tasks.addTask({ name: 'refusal', runOn: 'failure' }, (to) => this.mailer.send(to, 'order refused'), order.email);
    // Pass a @BackgroundTask() method itself.
    tasks.addTask(this.mailer.sendInvoice, order.email);

    if (id === '0') throw new BadRequestException('There is no order 0');
    return { id };
  }
}
