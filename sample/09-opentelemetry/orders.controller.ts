import { Controller, Param, Post } from '@nestjs/common';
import { trace } from '@opentelemetry/api';
import { BackgroundTasks } from 'nestjs-background-tasks';

const tracer = trace.getTracer('orders');

@Controller('orders')
export class OrdersController {
  @Post(':id')
  create(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(sendReceipt, id);
    tasks.addTask(reserveStock, id);
    return { id };
  }
}

// Traced calls in a task, such as database queries or HTTP requests, are inside its span.
async function sendReceipt(id: string): Promise<void> {
  await tracer.startActiveSpan('render receipt', async (span) => {
    span.setAttribute('order.id', id);
    span.end();
  });
}

async function reserveStock(id: string): Promise<void> {
  if (id === '13') throw new RangeError('out of stock');
}
