import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTasksError, BackgroundTasksModule } from 'nestjs-background-tasks';
import { fromPg, outboxTables, sqlOutbox } from 'nestjs-background-tasks/outbox';
import { inProcessEngine } from 'nestjs-background-tasks/testing';

const pool = {
  query: async (): Promise<{ rows: unknown[] }> => {
    throw new Error('It is away');
  },
};

// An application whose outbox cannot be opened does not start. No library for databases is installed.
@Module({ imports: [BackgroundTasksModule.forRoot({ engine: inProcessEngine(), outbox: sqlOutbox(fromPg(pool)) })] })
class AppModule {}

export const finished = NestFactory.createApplicationContext(AppModule, { logger: false, abortOnError: false }).then(
  () => Promise.reject(new Error(`It started without ${outboxTables('postgres')[0]}`)),
  (error: unknown) => {
    if (!(error instanceof BackgroundTasksError) || error.code !== 'BACKGROUND_TASK_OUTBOX') throw error;
  },
);
