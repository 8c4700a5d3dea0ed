import { awsLambdaFastify } from '@fastify/aws-lambda';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { APIGatewayProxyEventV2, Context } from 'aws-lambda';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import { AppModule } from './app.module.js';

const app = await NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter());
const answerOf = awsLambdaFastify(app.getHttpAdapter().getInstance());
await app.init();
await app.getHttpAdapter().getInstance().ready();
const runner = app.get(BackgroundTasksRunner);

export async function handler(event: APIGatewayProxyEventV2, context: Context): Promise<unknown> {
  const answer = await answerOf(event, context);
  // Frozen once this returns: the client waits for the tasks.
  await runner.onIdle();
  return answer;
}
