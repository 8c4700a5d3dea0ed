import { rename, rm } from 'node:fs/promises';
import type {} from '@fastify/multipart';
import { Controller, HttpCode, Post, Req } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Contacts } from './contacts.js';

@Controller('uploads')
export class UploadsController {
  constructor(private readonly contacts: Contacts) {}

  @Post()
  @HttpCode(202)
  async upload(@Req() request: FastifyRequest, @BackgroundTasks() tasks: BackgroundTasks): Promise<void> {
    const { files } = await request.saveRequestFiles();
    for (const { filepath } of files) {
      // The plugin deletes `filepath` when the response ends.
      const path = `${filepath}.kept`;
      await rename(filepath, path);
      tasks.addTask({ name: 'import' }, (kept) => this.contacts.import(kept), path);
      tasks.addTask({ name: 'delete upload', runOn: 'always' }, rm, path, { force: true });
    }
  }
}
