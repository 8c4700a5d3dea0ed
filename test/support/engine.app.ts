import { setTimeout } from 'node:timers/promises';
import { Controller, HttpCode, Injectable, Module, Param, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTask, BackgroundTasks, BackgroundTasksModule, currentTask } from 'nestjs-background-tasks';
import { engineOn, ownBackends } from './backends.js';

// The two programs that engine-chaos.spec.ts starts and kills: they print one JSON object a line.

const [role, database, url, queue, settings] = process.argv.slice(2) as [string, string, string, string, string];
const {
  hold = false,
  maxStalledCount = 5,
  shutdownTimeout = 20_000,
  flushTimeout = 10_000,
} = JSON.parse(settings) as Record<string, number | undefined>;
const backend = ownBackends.find(({ name }) => name === database)!;

function say(event: object): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

@Injectable()
class WorkTasks {
  @BackgroundTask('work')
  async work(id: string): Promise<void> {
    const { attempt, signal } = currentTask()!;
    say({ started: id, attempt });
    if (hold) await new Promise((resolve) => signal.addEventListener('abort', resolve));
    if (id.startsWith('deadly')) process.kill(process.pid, 'SIGKILL');
    // The time that a task takes: longer than its neighbour needs to end the process.
    if (id.startsWith('long')) await setTimeout(1_500, undefined, { signal });
    signal.throwIfAborted();
    say({ ran: id });
  }
}

@Controller()
class WorkController {
  @Post('work/:id')
  @HttpCode(202)
  work(@Param('id') id: string, @BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(WorkTasks.prototype.work, id);
  }
}

@Module({
  imports: [
    BackgroundTasksModule.forRoot({
      engine: engineOn(backend, url, {
        queue,
        worker: role === 'worker' && { concurrency: 10, lockDuration: 2_000, stalledInterval: 500, maxStalledCount },
      }),
      shutdownTimeout,
      onError: (error, task) => say({ failed: task.args.length > 0 ? String(task.args[0]) : task.id, why: (error as Error).message }),
      flushTimeout,
    }),
  ],
  controllers: role === 'worker' ? [] : [WorkController],
  providers: [WorkTasks],
})
class AppModule {}

if (role === 'worker') {
  const worker = await NestFactory.createApplicationContext(AppModule, { logger: false });
  worker.enableShutdownHooks();
  say({ ready: role });
} else {
  const api = await NestFactory.create(AppModule, { logger: false });
  api.enableShutdownHooks();
  await api.listen(0, '127.0.0.1');
  say({ ready: await api.getUrl() });
}
