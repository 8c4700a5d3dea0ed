import { Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Database } from './database.module.js';
import { Payments } from './payments.js';

@Controller('orders')
export class OrdersController {
  constructor(
    private readonly database: Database,
    private readonly payments: Payments,
  ) {}

  @Post(':id')
  @HttpCode(202)
  create(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks): void {
    this.database.run('insert into orders (id) values (?)', id);
    tasks.addTask({ name: 'pay' }, () => this.pay(id));
  }

  @Get()
  list(): unknown[] {
    return this.database.all('select id, paid from orders order by id');
  }

  private async pay(id: string): Promise<void> {
    await this.payments.charge(id);
    this.database.run('update orders set paid = 1 where id = ?', id);
  }
}
