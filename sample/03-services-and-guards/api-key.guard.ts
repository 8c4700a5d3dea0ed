import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { AuditLog } from './audit-log.js';

@Injectable()
export class ApiKeyGuard implements CanActivate {
  constructor(
    private readonly tasks: BackgroundTasks,
    private readonly audit: AuditLog,
  ) {}

  canActivate(context: ExecutionContext): boolean {
    const request = context.switchToHttp().getRequest<{ url: string; headers: Record<string, string | undefined> }>();
    const allowed = request.headers['x-api-key'] === 'open sesame';
    // A denied request fails, and by default tasks run on success.
    this.tasks.addTask({ runOn: 'always' }, () => this.audit.write(`${request.url} ${allowed ? 'allowed' : 'denied'}`));
    return allowed;
  }
}
