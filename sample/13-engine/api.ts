import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { ApiModule } from './api.module.js';
import { mountBoard } from './board.js';

const app = await NestFactory.create<NestExpressApplication>(ApiModule);
app.enableShutdownHooks();
mountBoard(app);
await app.listen(process.env.PORT ?? 3000, '127.0.0.1');
console.log(`Listening on ${await app.getUrl()}`);
