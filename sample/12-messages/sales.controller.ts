import { Controller, Param, Post } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Stock } from './stock.js';

@Controller()
export class SalesController {
  readonly receipts: string[] = [];

  constructor(private readonly stock: Stock) {}

  @Post('sales/:article')
  sell(@Param('article') article: string) {
    return this.stock.sell(article);
  }

  /** A sale in a shop: nobody waits for a response. */
  // The type argument lets Nest 12's types accept a second parameter.
  @EventPattern<string>('sold')
  sold(@Payload() article: string, @BackgroundTasks() tasks: BackgroundTasks): void {
    this.stock.sell(article);
    tasks.addTask({ name: 'receipt' }, (what: string) => void this.receipts.push(what), article);
  }
}
