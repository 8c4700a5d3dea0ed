import { type CallHandler, Controller, type ExecutionContext, Injectable, type NestInterceptor, Param, Post } from '@nestjs/common';
import { EventEmitter2, OnEvent } from '@nestjs/event-emitter';
import { tap } from 'rxjs';
import { Audit, Mail } from './work.js';

// Code of applications without tasks. It never runs: a spec shows which of these lines the lint rules find.

@Injectable()
export class AuditInterceptor implements NestInterceptor {
  constructor(private readonly audit: Audit) {}

  intercept(context: ExecutionContext, next: CallHandler) {
    const { url } = context.switchToHttp().getRequest<{ url: string }>();
    return next.handle().pipe(tap(() => void this.audit.write(url)));
  }
}

@Injectable()
export class OrdersListener {
  constructor(private readonly mail: Mail) {}

  @OnEvent('order.placed')
  placed(to: string): void {
    void this.mail.send(to, 'your order');
  }
}

@Controller('orders')
export class OrdersController {
  constructor(
    private readonly mail: Mail,
    private readonly events: EventEmitter2,
  ) {}

  @Post(':to')
  place(@Param('to') to: string) {
    void this.mail.send('stock@example.com', `order of ${to}`);
    this.mail.send('boss@example.com', `order of ${to}`).catch(() => {});
    setImmediate(() => this.mail.send('billing@example.com', `order of ${to}`));
    this.events.emit('order.placed', to);
    return { message: 'Order placed' };
  }
}
