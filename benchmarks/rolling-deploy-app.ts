import { setTimeout } from 'node:timers/promises';
import { Controller, HttpCode, Injectable, Module, Param, Post, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { engineOn, ownBackends } from '../test/support/backends.js';

// A process of the application that rolling-deploy.ts deploys: an API and a worker. Version 3 has the methods of versions 1 to 3.

const [version, database, url, queue] = process.argv.slice(2) as [string, string, string, string];
const backend = ownBackends.find(({ name }) => name === database)!;

/** Each of this many tasks is a long one. */
const LONG_ONE_IN = 40;
const [SHORT_MS, LONG_MS] = [10, 3_000];
/** Less than a long task takes, so that a process which is terminated has some to requeue. */
const SHUTDOWN_MS = 1_000;

/** The parent has given this process a file for it: what is written there survives SIGKILL. */
function note(event: string, id: string): void {
  process.stdout.write(`${Date.now()} ${process.pid} ${event} ${id}\n`);
}

type TasksClass = Type<{ run(id: string): Promise<void> }>;

function tasksOf(release: number): TasksClass {
  @Injectable()
  class ReleaseTasks {
    @BackgroundTask(`release-${release}`)
    async run(id: string): Promise<void> {
      note('started', id);
      await setTimeout(Number(id) % LONG_ONE_IN === 0 ? LONG_MS : SHORT_MS, undefined, { signal: currentTask()!.signal });
      note('ran', id);
    }
  }
  return ReleaseTasks;
}

const releases = Array.from({ length: Number(version) }, (_, index) => tasksOf(index + 1));

@Controller()
class WorkController {
  /** Every other task is of the method that the version before this one lacks; the others are of older ones. */
  @Post('work/:id')
  @HttpCode(202)
  work(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    const newest = releases.at(-1)!;
    const older = releases[Number(id) % releases.length]!;
    tasks.addTask((Number(id) % 2 === 0 ? newest : older).prototype.run, id);
    return { id };
  }
}

@Module({
  imports: [
    BackgroundTasksModule.forRoot({
      engine: engineOn(backend, url, { queue, worker: {} }),
      shutdownTimeout: SHUTDOWN_MS,
      onError: (_, task) => note('failed', String(task.args[0] ?? task.id)),
    }),
  ],
  controllers: [WorkController],
  providers: releases,
})
class AppModule {}

const app = await NestFactory.create(AppModule, new FastifyAdapter(), { logger: false });
app.enableShutdownHooks();
await app.listen(0, '127.0.0.1');
process.send!(await app.getUrl());
// It would keep the process from ending by itself.
process.disconnect();
