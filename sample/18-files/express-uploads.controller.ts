import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { Controller, HttpCode, Post, UploadedFile, UseInterceptors } from '@nestjs/common';
import { FileInterceptor } from '@nestjs/platform-express';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Contacts } from './contacts.js';

@Controller('uploads')
export class UploadsController {
  constructor(private readonly contacts: Contacts) {}

  @Post()
  @HttpCode(202)
  @UseInterceptors(FileInterceptor('contacts', { dest: tmpdir() }))
  upload(@UploadedFile() file: { path: string }, @BackgroundTasks() tasks: BackgroundTasks): void {
    tasks.addTask({ name: 'import' }, (path) => this.contacts.import(path), file.path);
    // multer never deletes the file.
    tasks.addTask({ name: 'delete upload', runOn: 'always' }, rm, file.path, { force: true });
  }
}
