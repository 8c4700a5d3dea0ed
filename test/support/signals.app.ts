import { once } from 'node:events';
import { Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTasks, BackgroundTasksModule, BackgroundTasksRunner } from 'nestjs-background-tasks';

// A program whose tasks a signal may lose: troubleshooting.spec.ts starts it with how it hears of the end, and reads its lines.

@Controller()
class TasksController {
  @Post()
  add(@BackgroundTasks() tasks: BackgroundTasks) {
    tasks.addTask(async () => {
      console.log('task began');
      // The test ends it.
      await once(process.stdin.resume(), 'end');
      console.log('task ended');
    });
  }
}

@Module({ imports: [BackgroundTasksModule], controllers: [TasksController] })
class TasksModule {}

const [, , how] = process.argv;
const app = await NestFactory.create(TasksModule, { logger: ['warn'] });
if (how === 'with shutdown hooks') app.enableShutdownHooks();
if (how === 'with process.exit()') process.once('SIGTERM', () => process.exit());
app.get(BackgroundTasksRunner).closing.addEventListener('abort', () => console.log('closing'));
await app.listen(0, '127.0.0.1');
console.log(`${await app.getUrl()} ${process.pid}`);
