import { ClsPluginTransactional } from '@nestjs-cls/transactional';
import { TransactionalAdapterTypeOrm } from '@nestjs-cls/transactional-adapter-typeorm';
import { type DynamicModule, Scope } from '@nestjs/common';
import { TypeOrmModule, getDataSourceToken } from '@nestjs/typeorm';
import { BackgroundTasksModule, type BackgroundTasksRootOptions } from 'nestjs-background-tasks';
import { fromTypeOrm, sqlOutbox, transactionalTasks } from 'nestjs-background-tasks/outbox';
import { ClsModule, ClsService } from 'nestjs-cls';
import { DataSource } from 'typeorm';
import { Order } from './order.entity.js';
import { databaseUrl } from './settings.js';
import type { Caller } from './caller.js';
import { Visit } from './visit.entity.js';

/** The part that the API and the worker share: the database, the async context, and background tasks. */
export function backend(engine: BackgroundTasksRootOptions['engine'], role: 'api' | 'worker'): DynamicModule[] {
  return [
    TypeOrmModule.forRoot({ type: 'postgres', url: databaseUrl, entities: [Order, Visit], synchronize: role === 'api' }),
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
      // A Passport strategy, listeners and jobs are singletons, and so must be all that they inject.
      scope: Scope.DEFAULT,
      inject: [ClsService, DataSource],
      useFactory: (cls: ClsService<Caller>, dataSource: DataSource) => ({
        engine,
        outbox: sqlOutbox(fromTypeOrm(dataSource), { migrate: true }),
        carry: (): Caller => ({ tenant: cls.get('tenant'), user: cls.get('user') }),
        around: (task, next) =>
          cls.run(() => {
            // Only a worker needs this. In process, the context is that of the request.
            const caller = task.carried as Caller | undefined;
            if (caller) {
              cls.set('tenant', caller.tenant);
              cls.set('user', caller.user);
            }
            return next();
          }),
      }),
    }),
  ];
}
