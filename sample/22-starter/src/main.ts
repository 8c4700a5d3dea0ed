import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module.js';

const app = await NestFactory.create(AppModule);
// Ctrl+C and SIGTERM wait for the tasks.
app.enableShutdownHooks();
await app.listen(process.env['PORT'] ?? 3000);
