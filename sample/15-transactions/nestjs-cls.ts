import { Module } from '@nestjs/common';
import { TypeOrmModule, getDataSourceToken } from '@nestjs/typeorm';
import { ClsPluginTransactional, TransactionHost } from '@nestjs-cls/transactional';
import { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { ClsModule } from 'nestjs-cls';

export const clsModule = ClsModule.forRoot({
  global: true,
  middleware: { mount: true },
  plugins: [
    new ClsPluginTransactional({
      imports: [TypeOrmModule],
      adapter: new TransactionalAdapterTypeOrm({ dataSourceToken: getDataSourceToken() }),
    }),
  ],
});

@Module({
  imports: [
    clsModule,
    BackgroundTasksModule.forRootAsync({
      inject: [TransactionHost],
      useFactory: (transactions: TransactionHost) => ({
        around: (_task, next) => transactions.withoutTransaction(next),
      }),
    }),
  ],
})
export class TransactionsModule {}
