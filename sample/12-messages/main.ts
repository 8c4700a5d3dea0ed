import { NestFactory } from '@nestjs/core';
import { type MicroserviceOptions, Transport } from '@nestjs/microservices';
import { AppModule } from './app.module.js';

const app = await NestFactory.create(AppModule);
app.enableShutdownHooks();
app.connectMicroservice<MicroserviceOptions>(
  { transport: Transport.TCP, options: { host: '127.0.0.1', port: 3001 } },
  // Without this, Nest does not call the interceptor of BackgroundTasksModule for messages.
  { inheritAppConfig: true },
);
await app.startAllMicroservices();
await app.listen(process.env.PORT ?? 3000);
