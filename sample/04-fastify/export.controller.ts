import { createReadStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Controller, Get, Header, Param, ParseIntPipe, StreamableFile } from '@nestjs/common';
import { BackgroundTasks } from 'nestjs-background-tasks';

@Controller('exports')
export class ExportController {
  /** Sends a file that was created for this request, and deletes it when the last byte is out or the client has left. */
  @Get(':rows.csv')
  @Header('Content-Type', 'text/csv')
  async download(@Param('rows', ParseIntPipe) rows: number, @BackgroundTasks() tasks: BackgroundTasks): Promise<StreamableFile> {
    const directory = await mkdtemp(join(tmpdir(), 'export-'));
    tasks.addTask({ name: 'remove export', runOn: 'always' }, rm, directory, { recursive: true });
    const file = join(directory, 'numbers.csv');
    const lines = Array.from({ length: rows }, (_, row) => `${row},${row ** 2}\n`);
    await writeFile(file, lines.join(''));
    return new StreamableFile(createReadStream(file));
  }
}
