import { Module } from '@nestjs/common';
import { TypeOrmModule, getDataSourceToken } from '@nestjs/typeorm';
import { ClsPluginTransactional } from '@nestjs-cls/transactional';
import { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { fromTypeOrm, sqlOutbox, transactionalTasks } from 'nestjs-background-tasks/outbox';
import { ClsModule } from 'nestjs-cls';
import { DataSource } from 'typeorm';

@Module({
  imports: [
    ClsModule.forRoot({
      global: true,
      middleware: { mount: true },
      plugins: [
        new ClsPluginTransactional({
          imports: [TypeOrmModule],
          adapter: transactionalTasks(new TransactionalAdapterTypeOrm({ dataSourceToken: getDataSourceToken() }), fromTypeOrm),
        }),
      ],
    }),
    BackgroundTasksModule.forRootAsync({
      inject: [DataSource],
      useFactory: (db: DataSource) => ({
        engine: bullmqEngine({ connection: process.env.REDIS_URL ?? 'redis://localhost' }),
        outbox: sqlOutbox(fromTypeOrm(db)),
      }),
    }),
  ],
})
export class TransactionsModule {}
