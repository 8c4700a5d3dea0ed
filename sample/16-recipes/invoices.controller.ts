import { Controller, HttpCode, Injectable, Param, Post } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { type Either, left } from './either.js';

@Injectable()
export class Printer {
  print(invoice: string): Promise<Either<Error, void>> {
    return Promise.resolve(left(new Error(`no paper for ${invoice}`)));
  }
}

@Controller('invoices')
export class InvoicesController {
  constructor(private readonly printer: Printer) {}

  @Post(':id/prints')
  @HttpCode(202)
  print(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks): void {
    tasks.addTask({ name: 'print' }, (invoice) => this.printer.print(invoice), id);
  }
}
