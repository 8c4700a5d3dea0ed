import { NestFactory } from '@nestjs/core';
import { WorkerModule } from './engine.js';

const worker = await NestFactory.createApplicationContext(WorkerModule);
worker.enableShutdownHooks();
