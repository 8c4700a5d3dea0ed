import { configure } from '@codegenie/serverless-express';
import { NestFactory } from '@nestjs/core';
import { AppModule } from '../../sample/17-serverless/app.module.js';

// A function that returns its answer, and nothing more.

const app = await NestFactory.create(AppModule, { logger: false });
await app.init();
const answerOf = configure({ app: app.getHttpAdapter().getInstance() });

export const handler = (event: unknown, context: never): unknown => answerOf(event, context, () => {});
