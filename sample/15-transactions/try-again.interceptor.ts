import { type CallHandler, type ExecutionContext, Injectable, type NestInterceptor } from '@nestjs/common';
import { type Observable, of, retry, throwError } from 'rxjs';
import { lostToAnother } from './tried-again.js';

/** Calls the handler again if its transaction was rolled back because of a concurrent one. */
@Injectable()
export class TryAgainInterceptor implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry({ count: 2, delay: (error) => (lostToAnother(error) ? of(true) : throwError(() => error)) }));
  }
}
