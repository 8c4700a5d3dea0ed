import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Audit } from './work.js';

@Injectable()
export class AuditInterceptor implements NestInterceptor {
  constructor(private readonly audit: Audit) {}

  intercept(context: ExecutionContext, next: CallHandler) {
    const { url } = context.switchToHttp().getRequest<{ url: string }>();
    BackgroundTasks.of(context).addTask({ name: 'audit' }, (entry) => this.audit.write(entry), url);
    return next.handle();
  }
}
