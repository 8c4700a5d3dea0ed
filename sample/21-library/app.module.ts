// An application that uses the library.
import { Controller, Global, Module, Param, Post, Scope } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import { Audit, RUN_LATER, type RunLater } from './audit.js';

@Controller('orders')
export class OrdersController {
  constructor(private readonly audit: Audit) {}

  @Post(':id')
  create(@Param('id') id: string) {
    this.audit.note(`order ${id}`);
    return { id, written: this.audit.written.length };
  }
}

@Global()
@Module({
  providers: [
    {
      provide: RUN_LATER,
      useFactory:
        (tasks: BackgroundTasks): RunLater =>
        (work) =>
          void tasks.addTask({ name: 'audit' }, work),
      inject: [BackgroundTasks],
    },
  ],
  exports: [RUN_LATER],
})
export class RunLaterModule {}

@Module({
  imports: [BackgroundTasksModule.forRoot({ scope: Scope.DEFAULT }), RunLaterModule],
  controllers: [OrdersController],
  providers: [Audit],
})
export class AppModule {}
