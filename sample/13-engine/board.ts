import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { Queue } from 'bullmq';
import { queueName, server } from './engine.js';

/** Shows the queue at `/queues`. Everybody who sees the board can change the queue, so protect it with a login. */
export function mountBoard(app: NestExpressApplication): void {
  const connection = typeof server.connection === 'string' ? { url: server.connection } : server.connection;
  // The third parameter selects the backend of BullMQ 6. The types of a queue depend on it, hence the cast.
  const queue = new Queue(queueName, { connection }, server.backend as undefined);
  const serverAdapter = new ExpressAdapter();
  serverAdapter.setBasePath('/queues');
  createBullBoard({ queues: [new BullMQAdapter(queue)], serverAdapter });
  app.use('/queues', serverAdapter.getRouter());
}
