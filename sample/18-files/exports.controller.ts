import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Controller, Get, Res } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';
import { Contacts } from './contacts.js';

/** The part of Express's response that this sample uses. */
interface Response {
  sendFile(path: string, options: { headers: Record<string, string> }): void;
}

@Controller('exports')
export class ExportsController {
  constructor(private readonly contacts: Contacts) {}

  @Get('contacts.txt')
  async download(@Res() response: Response, @BackgroundTasks() tasks: BackgroundTasks): Promise<void> {
    const path = join(tmpdir(), `${randomUUID()}.txt`);
    tasks.addTask({ name: 'delete export', runOn: 'always' }, rm, path, { force: true });
    await writeFile(path, this.contacts.all.join('\n'));
    response.sendFile(path, { headers: { 'Content-Disposition': 'attachment' } });
  }
}
