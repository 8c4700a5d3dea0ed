// Guarantee 11: several copies of this package in one process are named at boot, and by the parameter that finds no list.
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type ArgumentsHost, Catch, Controller, type ExceptionFilter, Get, type INestApplication, Module } from '@nestjs/common';
import { BackgroundTasks, BackgroundTasksModule } from 'nestjs-background-tasks';
import type * as thePackage from 'nestjs-background-tasks';
import { createApp, platforms } from '../support/app.js';

const root = fileURLToPath(new URL('../../', import.meta.url));
const directory = mkdtempSync(join(tmpdir(), 'copy-'));
let copy: typeof thePackage;

beforeAll(async () => {
  cpSync(join(root, 'lib'), join(directory, 'lib'), { recursive: true });
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
  copy = await import(join(directory, 'lib', 'index.ts'));
});

afterAll(() => rmSync(directory, { recursive: true }));

/** Answers with what was thrown. */
@Catch()
class AnswerWithMessage implements ExceptionFilter {
  constructor(private readonly app: INestApplication) {}

  catch(error: { code?: string; message: string }, host: ArgumentsHost): void {
    this.app.getHttpAdapter().reply(host.switchToHttp().getResponse(), { code: error.code, message: error.message }, 500);
  }
}

describe.each(platforms)('the decorator of one copy, and the module of another, on %s', (platform) => {
  it('are told at boot and in the error of the parameter, with the folders of both', async () => {
    @Controller()
    class MixedController {
      @Get()
      get(@BackgroundTasks() _tasks: unknown) {}
    }

    @Module({ imports: [copy.BackgroundTasksModule], controllers: [MixedController] })
    class MixedModule {}

    expect(copy.BackgroundTasksModule).not.toBe(BackgroundTasksModule);
    const { http, logs } = await createApp(platform, MixedModule, {
      configure: (app) => void app.useGlobalFilters(new AnswerWithMessage(app)),
    });
    const folders = [join(root, 'lib'), join(directory, 'lib')];
    const [warning, ...others] = logs.of('warn');
    expect(others).toEqual([]);
    expect(warning).toMatch(/^This process has several copies of nestjs-background-tasks/);
    expect(readFileSync('docs/troubleshooting.md', 'utf8')).toContain(`## ${warning!.split(',')[0]}\n`);
    const { body } = await http.get('/').expect(500);
    expect(body.code).toBe('BACKGROUND_TASK_MODULE_NOT_IMPORTED');
    for (const folder of folders) {
      expect(warning).toContain(folder);
      expect(body.message).toContain(folder);
    }
    expect(body.message).toContain('`npm ls nestjs-background-tasks`');
    expect(body.message).not.toContain('add BackgroundTasksModule to the imports');
  });
});
