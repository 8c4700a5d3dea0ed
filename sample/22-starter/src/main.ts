import { NestFactory } from '@nestjs/core';
import { AppModule } from './app.module.js';

const app = await NestFactory.create(AppModule);
// On Ctrl+C and SIGTERM, the application finishes its tasks.
app.enableShutdownHooks();
await app.listen(process.env['PORT'] ?? 3000);
