// Sample 01: the quick start.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { AppModule } from '../../sample/01-quick-start/app.module.js';
import { createApp, platforms } from '../support/app.js';

describe.each(platforms)('sample/01-quick-start on %s', (platform) => {
  const home = process.cwd();
  let directory: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'quick-start-'));
    process.chdir(directory);
  });

  afterEach(async () => {
    process.chdir(home);
    await rm(directory, { recursive: true });
  });

  it('writes the log after the response', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    await http.post('/send-notification/foo@example.com').expect(201, { message: 'Message sent' });
    await runner.onIdle();
    expect(await readFile('log.txt', 'utf8')).toBe('message to foo@example.com\n');
  });

  it('writes the line of the request-scoped provider first', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    await http.post('/send-notification/foo@example.com?q=some-query').expect(201, { message: 'Message sent' });
    await runner.onIdle();
    expect(await readFile('log.txt', 'utf8')).toBe('found query: some-query\nmessage to foo@example.com\n');
  });

  it('answers while a slow task is at work', async () => {
    const { http, runner } = await createApp(platform, AppModule);
    await http.post('/send-newsletter/foo@example.com').expect(201, { message: 'Newsletter on its way' });
    expect(runner.activeCount + runner.pendingCount).toBe(1);
    await runner.onIdle();
    expect(await readFile('log.txt', 'utf8')).toBe('newsletter to foo@example.com\n');
  });
});
