import { type MiddlewareConsumer, Module, type NestModule, Scope } from '@nestjs/common';
import { ApplicationConfig, HttpAdapterHost, REQUEST } from '@nestjs/core';
import { BackgroundTasksInterceptor } from './background-tasks.interceptor.js';
import { BackgroundTasksRunner } from './background-tasks.runner.js';
import { BackgroundTasks } from './background-tasks.js';
import { linkResponses } from './request/http.js';
import { tasksOfInjected } from './request/request-tasks.js';

/** The one instance of everything in an application, however many modules import `BackgroundTasksModule`. */
@Module({
  providers: [
    BackgroundTasksRunner,
    BackgroundTasksInterceptor,
    {
      provide: BackgroundTasks,
      scope: Scope.REQUEST,
      inject: [REQUEST, BackgroundTasksRunner],
      useFactory: tasksOfInjected,
    },
  ],
  exports: [BackgroundTasks, BackgroundTasksRunner],
})
export class BackgroundTasksCoreModule implements NestModule {
  constructor(
    private readonly config: ApplicationConfig,
    private readonly adapterHost: HttpAdapterHost,
    private readonly interceptor: BackgroundTasksInterceptor,
  ) {}

  configure(_consumer: MiddlewareConsumer): void {
    // In front of the interceptors of the application, which an APP_INTERCEPTOR of a library would run inside of: they may still fail the request.
    this.config.getGlobalInterceptors().unshift(this.interceptor);
    linkResponses(this.adapterHost.httpAdapter);
  }
}
