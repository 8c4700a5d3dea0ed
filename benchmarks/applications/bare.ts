import { type CallHandler, Controller, Get, Injectable, Module, type NestInterceptor, Param } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import type { Observable } from 'rxjs';
import { answer } from './task.js';

@Controller()
export class BareController {
  @Get('notify/:email')
  notify(@Param('email') _email: string) {
    return answer();
  }
}

@Module({ controllers: [BareController] })
export class Bare {}

@Injectable()
export class NoOpInterceptor implements NestInterceptor {
  intercept(_context: unknown, next: CallHandler): Observable<unknown> {
    return next.handle();
  }
}

@Module({ controllers: [BareController], providers: [{ provide: APP_INTERCEPTOR, useClass: NoOpInterceptor }] })
export class NoOpGlobalInterceptor {}
