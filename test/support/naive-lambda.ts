import { configure } from '@codegenie/serverless-express';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { BackgroundTasksModule } from 'nestjs-background-tasks';
import { SignUpsController } from '../../sample/17-serverless/sign-ups.controller.js';

// A function that returns its answer, and nothing more.

@Module({ imports: [BackgroundTasksModule], controllers: [SignUpsController] })
class AppModule {}

const app = await NestFactory.create(AppModule, { logger: ['warn'] });
await app.init();
const answerOf = configure({ app: app.getHttpAdapter().getInstance() });

export const handler = (event: unknown, context: never): unknown => answerOf(event, context, () => {});
