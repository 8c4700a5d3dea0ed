import { configure } from '@codegenie/serverless-express';
import { NestFactory } from '@nestjs/core';
import type { APIGatewayProxyEventV2, Context } from 'aws-lambda';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import { AppModule } from './app.module.js';

const app = await NestFactory.create(AppModule);
await app.init();
const runner = app.get(BackgroundTasksRunner);
const answerOf = configure({ app: app.getHttpAdapter().getInstance() });

export async function handler(event: APIGatewayProxyEventV2, context: Context): Promise<unknown> {
  const answer: unknown = await answerOf(event, context, () => {});
  // Frozen once this returns: the client waits for the tasks.
  await runner.onIdle();
  return answer;
}
