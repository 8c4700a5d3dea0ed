import type { IncomingMessage, ServerResponse } from 'node:http';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { waitUntil } from '@vercel/functions';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { SignUpsController } from './sign-ups.controller.js';

@Module({ imports: [BackgroundTasksModule.forRoot({ waitUntil })], controllers: [SignUpsController] })
class AppModule {}

const app = await NestFactory.create(AppModule);
await app.init();

export default function handler(request: IncomingMessage, response: ServerResponse): void {
  app.getHttpAdapter().getInstance()(request, response);
}
