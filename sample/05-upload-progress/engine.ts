import { Module } from '@nestjs/common';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { createPostgresBackend } from 'bullmq';
import { ContactStore } from './contact-store.js';
import { Imports } from './imports.js';
import { ImportsController } from './imports.controller.js';

const { REDIS_URL, DATABASE_URL = 'postgres://localhost/postgres' } = process.env;

/** Redis if REDIS_URL is set, and Postgres otherwise. */
const server = REDIS_URL
  ? { connection: REDIS_URL }
  : { connection: { connectionString: DATABASE_URL, migrate: true }, backend: createPostgresBackend };

/** Answers requests, and runs no tasks. */
@Module({
  imports: [BackgroundTasksModule.forRoot({ engine: bullmqEngine({ ...server, queue: 'imports', worker: false }) })],
  controllers: [ImportsController],
  providers: [ContactStore, Imports],
})
export class ApiModule {}

/** Runs the tasks, in its own process. */
@Module({
  imports: [BackgroundTasksModule.forRoot({ engine: bullmqEngine({ ...server, queue: 'imports' }) })],
  providers: [ContactStore, Imports],
})
export class WorkerModule {}
