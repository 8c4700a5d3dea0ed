import { Module } from '@nestjs/common';
import { createPostgresBackend } from 'bullmq';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { bullmqEngine } from 'nestjs-background-tasks/bullmq';
import { MailTasks } from './mail.tasks.js';
import { UsersController } from './users.controller.js';

const connection = { connectionString: process.env.DATABASE_URL ?? 'postgres://localhost/postgres', migrate: true };

@Module({
  imports: [BackgroundTasksModule.forRoot({ engine: bullmqEngine({ connection, backend: createPostgresBackend }) })],
  controllers: [UsersController],
  providers: [MailTasks],
})
export class AppModule {}
