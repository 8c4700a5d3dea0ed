import { NestFactory } from '@nestjs/core';
import { ApiModule } from './engine.js';

const app = await NestFactory.create(ApiModule);
app.enableShutdownHooks();
await app.listen(process.env.PORT ?? 3000, '127.0.0.1');
console.log(`Listening on ${await app.getUrl()}`);
