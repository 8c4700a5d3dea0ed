import { MikroORM, TransactionContext } from '@mikro-orm/core';
import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';

@Module({
  imports: [
    BackgroundTasksModule.forRootAsync({
      inject: [MikroORM],
      useFactory: ({ em }: MikroORM) => ({
        around: (_task, next) => TransactionContext.create(em.fork({ disableContextResolution: true }), next),
      }),
    }),
  ],
})
export class TransactionsModule {}
