import type { Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { serve } from './child.js';
import { held, sent } from '../applications/task.js';

const [platform, file, name] = process.argv.slice(2);
// No application pays for what another one imports.
const applications: Record<string, Type> = await import(`../applications/${file}.js`);
const app = await NestFactory.create(applications[name!]!, platform === 'express' ? new ExpressAdapter() : new FastifyAdapter(), {
  logger: ['warn', 'error'],
});
// As without it. The first task would warn that nothing listens.
process.once('SIGTERM', () => process.exit());
await app.listen(0, '127.0.0.1');

serve({
  url: () => app.getUrl(),
  /** Microseconds of processor time that this process has used. */
  cpu() {
    const { user, system } = process.cpuUsage();
    return user + system;
  },
  /** Bytes in use. */
  heap() {
    globalThis.gc!();
    return process.memoryUsage().heapUsed;
  },
  sent,
  held,
});
