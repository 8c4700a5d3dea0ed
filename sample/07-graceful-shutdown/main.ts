import { NestFactory } from '@nestjs/core';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import { AppModule } from './app.module.js';

const app = await NestFactory.create(AppModule);
app.enableShutdownHooks();
const runner = app.get(BackgroundTasksRunner);
process.once('SIGTERM', () => console.log(`Shutting down, with ${runner.activeCount + runner.pendingCount} tasks to finish`));
await app.listen(process.env.PORT ?? 3000, '127.0.0.1');
console.log(`Listening on ${await app.getUrl()}`);
