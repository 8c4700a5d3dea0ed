import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { awsLambdaFastify } from '@fastify/aws-lambda';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { APIGatewayProxyEventV2, Context } from 'aws-lambda';
import { BackgroundTasksRunner } from 'nestjs-background-tasks';
import { AppModule } from './app.module.js';

/** The part of Lambda's runtime for functions that stream. */
declare const awslambda: {
  streamifyResponse(handler: (event: APIGatewayProxyEventV2, stream: Writable, context: Context) => Promise<void>): unknown;
  HttpResponseStream: { from(stream: Writable, head: object): Writable };
};

const app = await NestFactory.create<NestFastifyApplication>(AppModule, new FastifyAdapter());
const answerOf = awsLambdaFastify(app.getHttpAdapter().getInstance(), { payloadAsStream: true });
await app.init();
await app.getHttpAdapter().getInstance().ready();
const runner = app.get(BackgroundTasksRunner);

export const handler = awslambda.streamifyResponse(async (event, stream, context) => {
  const { meta, stream: body } = await answerOf(event, context);
  // Ends the stream: the client has its response.
  await pipeline(body, awslambda.HttpResponseStream.from(stream, meta));
  await runner.onIdle();
});
