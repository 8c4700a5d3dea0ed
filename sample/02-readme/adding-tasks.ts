import { BadRequestException, Controller, Injectable, Param, Post } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { reindex } from './current-task.js';

@Injectable()
export class Mailer {
  readonly sent: string[] = [];

  send(message: string): void {
    this.sent.push(message);
  }
}

@Controller('orders')
export class OrdersController {
  constructor(private readonly mailer: Mailer) {}

  @Post(':id')
  create(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    // A method goes into a closure. `this.mailer.send` alone has lost its `this`, and nothing can detect that.
    tasks.addTask(() => this.mailer.send(`Order ${id} received`));
    // Options come first, as in Node's own `test(options, fn)`.
    tasks.addTask({ name: 'reindex', timeout: 5_000 }, reindex, id);
    tasks.addTask({ runOn: 'failure' }, () => this.mailer.send(`Order ${id} was refused`));
    if (id === '0') throw new BadRequestException('There is no order 0');
    return { id };
  }
}
