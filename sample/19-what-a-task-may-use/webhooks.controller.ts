import type { IncomingMessage } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { Controller, HttpCode, Post, Req } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Journal } from './journal.js';

@Controller('webhooks')
export class WebhooksController {
  constructor(private readonly journal: Journal) {}

  /** For a content type that no body parser reads, such as `application/octet-stream` on Express. */
  @Post()
  @HttpCode(202)
  async receive(@Req() request: IncomingMessage & { raw?: IncomingMessage }, @BackgroundTasks() tasks: BackgroundTasks): Promise<void> {
    const body = await buffer(request.raw ?? request);
    tasks.addTask(({ length }) => this.journal.write('received', length), body);
  }
}
