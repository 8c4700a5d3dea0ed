import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { Propagation, runInTransaction } from 'typeorm-transactional';

@Module({
  imports: [
    BackgroundTasksModule.forRoot({
      around: (_task, next) => runInTransaction(next, { propagation: Propagation.NOT_SUPPORTED }),
    }),
  ],
})
export class TransactionsModule {}
